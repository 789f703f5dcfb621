"""``medlake tokens``: who may upload over HTTP, or ask the registry over FHIR."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="上传凭证 / tokens of client systems", no_args_is_help=True)


@app.command("create")
def create(
    org: Annotated[str, typer.Option("--org", help="机构编码 / institution")],
    feeds: Annotated[
        list[str],
        typer.Option(
            "--feeds", help="数据源，或 empi、empi-merge（FHIR 主索引）/ feeds, or empi, empi-merge for FHIR"
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=3650, help="有效天数 / days to live")] = 365,
    note: Annotated[str, typer.Option(help="用途说明 / what it is for")] = "",
    json: Json = False,
) -> None:
    """发放凭证；只显示这一次 / make a token; it is shown this once."""

    def work() -> dict[str, Any]:
        from portal import clients

        wanted = [f for word in feeds for f in word.replace(",", " ").split()]
        token_id, word = clients.create(org, wanted, days=days, note=note)
        return {"token_id": token_id, "token": word, "org_code": org, "feeds": " ".join(wanted)}

    measured(work, json, "上传凭证 token", "curl -H 'Authorization: Bearer <token>' … /ingest/<feed>")


@app.command("list")
def list_(json: Json = False) -> None:
    """列出凭证（不含凭证本身）/ list tokens, without what they are."""

    def work() -> list[dict[str, Any]]:
        from portal import clients

        return clients.listed()

    listed(work, json, "上传凭证 tokens")


@app.command("revoke")
def revoke(token_id: Annotated[str, typer.Argument(help="凭证编号 / id")], json: Json = False) -> None:
    """撤销凭证，立即生效 / close a token at once."""

    def work() -> dict[str, Any]:
        from portal import clients

        clients.revoke(token_id)
        return {"token_id": token_id, "state": "revoked"}

    measured(work, json, "撤销 revoke")
