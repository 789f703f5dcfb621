"""Templates: those of this release, and those that people made, each version approved once by another person."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, select, update

from lake import audit, ops
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.product_tables import export_template as table
from products.exports.template import Template, parse, read, shipped

#: Who may approve a template.
APPROVERS = frozenset({"steward"})


def body_of(template: Template) -> str:
    """The canonical text of a template: its SM3 is what an approval is for."""
    return json.dumps(
        template.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False, sort_keys=True
    )


def templates() -> list[dict[str, Any]]:
    """Every template: ``template, title_zh, version, state, origin, columns, purpose, sm3``."""
    rows: list[dict[str, Any]] = []
    for name, path in shipped().items():
        made = read(path)
        rows.append(_row(name, made, 0, "approved", "shipped", sm3_hex(body_of(made).encode())))
    with ops.reader().connect() as con:
        newest = (
            select(table.c.template, func.max(table.c.version).label("v"))
            .group_by(table.c.template)
            .subquery()
        )
        found = con.execute(
            select(table).join(
                newest, (table.c.template == newest.c.template) & (table.c.version == newest.c.v)
            )
        )
        for row in found:
            made = parse(json.loads(row.body), row.template)
            rows.append(_row(row.template, made, row.version, row.state, row.proposed_by, row.sm3))
    return rows


def _row(name: str, made: Template, version: int, state: str, origin: str, sm3: str) -> dict[str, Any]:
    return {"template": name, "title_zh": made.title_zh, "version": version, "state": state, "origin": origin,
            "columns": len(made.columns), "purpose": made.purpose, "recipient": made.recipient, "sm3": sm3}  # fmt: skip


def template(name: str) -> tuple[Template, str]:
    """An approved template by name, with the SM3 of its body.

    Raises:
        MedlakeError: E612 there is none; E615 no version of it is approved, or its text is not what was approved.
    """
    files = shipped()
    if name in files:
        made = read(files[name])
        return made, sm3_hex(body_of(made).encode())
    with ops.reader().connect() as con:
        rows = con.execute(
            select(table).where(table.c.template == name).order_by(table.c.version.desc())
        ).all()
    if not rows:
        raise MedlakeError("E612", place=name, template=name, known=", ".join(sorted(files)))
    row = next((r for r in rows if r.state == "approved"), None)
    if row is None or sm3_hex(row.body.encode()) != row.sm3:
        raise MedlakeError("E615", place=name, template=name, state=rows[0].state)
    return parse(json.loads(row.body), name), row.sm3


def propose(node: dict[str, Any], *, actor: str, org_code: str) -> dict[str, Any]:
    """Hand in a template (a new version of one that is there). It runs once another person approved it.

    Raises:
        MedlakeError: E613 it is not valid, or has the name of a shipped one; E614 unknown fields.
    """
    from lake import access
    from products.exports.query import compile_template

    made = parse(node, str(node.get("template", "?")))
    if made.template in shipped():
        raise MedlakeError(
            "E613", place=made.template, detail="随版本发布的模板不能改写，请另起名 / name is taken"
        )
    # fields and purpose are looked at as the officer's role would run it
    compile_template(made, access.Caller(actor, "officer", org_code, made.purpose))
    body = body_of(made)
    with ops.engine().begin() as con:
        newest = con.execute(
            select(func.max(table.c.version)).where(table.c.template == made.template)
        ).scalar()
        row = {"template": made.template, "version": (newest or 0) + 1, "title_zh": made.title_zh, "body": body,
               "sm3": sm3_hex(body.encode()), "org_code": org_code, "state": "proposed", "proposed_by": actor,
               "proposed_at": datetime.now(UTC)}  # fmt: skip
        con.execute(insert(table).values(row))
        audit.record("export_template_propose", actor=actor, purpose=made.purpose, tables=[f"silver.{made.table}"],
                     fields=[c.field for c in made.columns], rows=0, result="ok", connection=con,
                     template=made.template, version=row["version"], sm3=row["sm3"])  # fmt: skip
    return {"template": made.template, "version": row["version"], "state": "proposed", "sm3": row["sm3"]}


def decide(
    name: str, version: int, *, actor: str, role: str, agree: bool, reason: str = ""
) -> dict[str, Any]:
    """Approve or refuse a proposed version; never one's own.

    Raises:
        MedlakeError: E612, E615 (nothing to decide), E618 the proposer may not approve.
    """
    with ops.engine().begin() as con:
        key = (table.c.template == name) & (table.c.version == version)
        row = con.execute(select(table).where(key)).one_or_none()
        if row is None:
            raise MedlakeError("E612", place=name, template=name, known=", ".join(sorted(shipped())))
        if row.state != "proposed" or role not in APPROVERS:
            raise MedlakeError("E615", place=name, template=name, state=row.state)
        if row.proposed_by == actor:
            raise MedlakeError("E618", place=name, template=name)
        state = "approved" if agree else "refused"
        con.execute(
            update(table)
            .where(key)
            .values(state=state, decided_by=actor, decided_at=datetime.now(UTC), reason=reason)
        )
        audit.record("export_template_decide", actor=actor, purpose="quality", tables=[], fields=[], rows=0,
                     result=state, connection=con, template=name, version=version, sm3=row.sm3)  # fmt: skip
    return {"template": name, "version": version, "state": state}
