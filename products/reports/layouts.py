"""Layouts: a blank workbook with its cells bound to indicators. Bound once; a change of bindings is a new version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import func, insert, select

from lake import access, audit, ops
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.product_tables import report_layout as table
from lake.settings import settings
from products.export_template import explain
from products.reports import formula, indicators, workbook


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Binding(_Strict):
    """A cell's figure. ``plus``: the cell of the month that this running total grows by: a check follows from it."""

    cell: Annotated[str, Field(pattern=r"^.{1,31}![A-Z]{1,3}[0-9]{1,7}$")]
    indicator: str
    span: Literal["month", "year", "upto"] | None = None
    org: str | None = None
    plus: str | None = None


class Bindings(_Strict):
    """What a layout says: figures, and checks such as ``表1!B5 = 表1!B6 + 表2!C3`` within and between tables."""

    title_zh: Annotated[str, Field(min_length=1, max_length=100)]
    cells: Annotated[list[Binding], Field(min_length=1, max_length=5000)]
    checks: Annotated[list[Annotated[str, Field(max_length=400)]], Field(max_length=500)] = Field(
        default_factory=list
    )


@dataclass(frozen=True)
class Layout:
    """A stored layout with its blank workbook's content."""

    layout: str
    version: int
    title_zh: str
    org_code: str
    bindings: Bindings
    content: bytes


def folder() -> Path:
    """Where workbooks lie: below home, for the service account alone."""
    made = settings().home / "reports"
    made.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made


def read_bindings(node: Any, place: str) -> Bindings:
    """Bindings from plain data.

    Raises:
        MedlakeError: E631 with what is wrong.
    """
    try:
        return Bindings.model_validate(node)
    except ValidationError as error:
        raise MedlakeError("E631", cell=place, detail=explain(error)) from error


def verify(content: bytes, bindings: Bindings, place: str) -> None:
    """Every cell must take a figure, every indicator exist, every check be readable.

    Raises:
        MedlakeError: E629 the workbook; E631 a cell; E632 an indicator; E634 a check.
    """
    book = workbook.load(content, place)
    seen: set[str] = set()
    for bound in bindings.cells:
        workbook.target(book, bound.cell)
        indicators.get(bound.indicator)
        if bound.cell in seen:
            raise MedlakeError("E631", cell=bound.cell, detail="绑定了两次 / bound twice")
        seen.add(bound.cell)
    for bound in bindings.cells:
        if bound.plus is not None and bound.plus not in seen:
            raise MedlakeError("E631", cell=bound.cell, detail=f"{bound.plus} 未绑定 / not bound")
    for text in bindings.checks:
        formula.check(text, book.sheetnames[0], lambda _: 0.0)


def bind(
    content: bytes, bindings: Bindings, caller: access.Caller, place: str = "workbook.xlsx"
) -> dict[str, Any]:
    """Keep a blank workbook with its bindings; the same workbook again makes a new version.

    Returns:
        ``layout, version, title_zh, cells, checks``.

    Raises:
        MedlakeError: as :func:`verify`.
    """
    verify(content, bindings, place)
    digest = sm3_hex(content)
    name = f"L{sm3_hex((caller.org_code + digest).encode())[:12]}"
    path = folder() / "blank" / f"{name}.xlsx"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)
    with ops.engine().begin() as con:
        version = (
            con.execute(select(func.max(table.c.version)).where(table.c.layout == name)).scalar() or 0
        ) + 1
        con.execute(
            insert(table).values(
                layout=name, version=version, title_zh=bindings.title_zh, org_code=caller.org_code,
                workbook_sm3=digest, file=f"blank/{name}.xlsx", bindings=bindings.model_dump_json(exclude_defaults=True),
                created_by=caller.user, created_at=datetime.now(UTC),
            )
        )  # fmt: skip
        audit.record("report_bind", actor=caller.user, purpose=caller.purpose, tables=[], fields=[], rows=0, result="ok",
                     connection=con, layout=name, version=version, cells=len(bindings.cells))  # fmt: skip
    return {"layout": name, "version": version, "title_zh": bindings.title_zh, "cells": len(bindings.cells),
            "checks": len(bindings.checks)}  # fmt: skip


def _one(row: Any) -> Layout:
    path = (folder() / row.file).resolve()
    if not path.is_relative_to(folder().resolve()):
        raise MedlakeError("E635", layout=row.layout, month="-")
    made = read_bindings(json.loads(row.bindings), row.layout)
    return Layout(row.layout, row.version, row.title_zh, row.org_code, made, path.read_bytes())


def get(layout: str, caller: access.Caller) -> Layout:
    """The newest version of a layout of the caller's institution or one below it.

    Raises:
        MedlakeError: E635, there is none.
    """
    with ops.reader().connect() as con:
        row = con.execute(
            select(table).where(table.c.layout == layout).order_by(table.c.version.desc()).limit(1)
        ).one_or_none()
    seen = access.scope(caller)
    if row is None or (seen is not None and row.org_code not in seen):
        raise MedlakeError("E635", place=layout, layout=layout, month="-")
    return _one(row)


def of_workbook(content: bytes, caller: access.Caller, place: str) -> Layout:
    """The layout that was bound for this very workbook.

    Raises:
        MedlakeError: E629 it is no plain workbook; E630 it was never bound.
    """
    workbook.inspect(content, place)
    name = f"L{sm3_hex((caller.org_code + sm3_hex(content)).encode())[:12]}"
    try:
        return get(name, caller)
    except MedlakeError:
        raise MedlakeError("E630", place=place) from None


def listed(caller: access.Caller) -> list[dict[str, Any]]:
    """Layouts that the caller may use, newest version each."""
    seen = access.scope(caller)
    with ops.reader().connect() as con:
        rows = con.execute(select(table).order_by(table.c.layout, table.c.version)).all()
    newest = {row.layout: row for row in rows if seen is None or row.org_code in seen}
    return [
        {"layout": r.layout, "version": r.version, "title_zh": r.title_zh, "org_code": r.org_code,
         "created_by": r.created_by, "created_at": r.created_at} for r in newest.values()
    ]  # fmt: skip
