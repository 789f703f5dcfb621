"""``medlake fhir``: FHIR R4 folders (bulk export, import drop) with their manifests."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, measured

app = typer.Typer(help="FHIR R4 批量文件 / bulk FHIR R4 files", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="导出文件所在目录 / folder of the exported files")]


@app.command("check")
def check_(folder: Folder, json: Json = False) -> None:
    """核对清单与文件，不接入 / Hold a folder against its manifest, without ingesting it."""
    problems: list[str] = []

    def work() -> dict[str, Any]:
        from ingestion.pull import fhir

        found = fhir.check(folder)
        problems.extend(found["problems"])
        return found

    measured(work, json, "核对清单 fhir check", "medlake fhir import")
    if problems:
        raise typer.Exit(1)


@app.command("import")
def import_(
    folder: Folder,
    org: Annotated[str | None, typer.Option("--org", help="机构编码 / institution")] = None,
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="交付日期，默认今天 / delivery date"),
    ] = None,
    json: Json = False,
) -> None:
    """核对清单后接入 / Check the manifest, then ingest the folder."""

    def work() -> dict[str, Any]:
        from ingestion.pull import fhir

        return fhir.import_folder(folder, org_code=org, data_date=day.date() if day else None)

    measured(work, json, "接入 FHIR import", "medlake quarantine list --feed fhir")
