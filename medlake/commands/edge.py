"""``medlake edge``: nodes at institutions and stations, the centre they report to, who may take part, residents' packs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Day, Json, listed, measured

app = typer.Typer(help="前置节点：断网 72 小时 / edge nodes: 72 hours without network", no_args_is_help=True)
ca_app = typer.Typer(help="节点证书 / certificates of nodes", no_args_is_help=True)
pack_app = typer.Typer(help="居民包 / residents' packs", no_args_is_help=True)
app.add_typer(ca_app, name="ca")
app.add_typer(pack_app, name="pack")

NodeDir = Annotated[Path, typer.Option("--dir", help="节点目录 / the node's folder")]
NodeName = Annotated[str, typer.Argument(help="节点名 / node")]


def _serving(work: Any) -> None:
    """Run a server until it is stopped; a numbered error ends it with 1."""
    import asyncio

    from lake.errors import MedlakeError

    try:
        asyncio.run(work)
    except MedlakeError as error:
        show.problem(error, as_json=False)
        raise typer.Exit(1) from None


@app.command("run")
def run(
    folder: NodeDir = Path("edge"),
    ask_passphrase: Annotated[
        bool, typer.Option("--ask-passphrase", help="启动时询问居民包口令 / ask for the pack's passphrase")
    ] = False,
) -> None:
    """运行一个节点（机构或站点终端）/ run a node, at an institution or at a station's terminal.

    口令也可放在环境变量 MEDLAKE_EDGE_PASSPHRASE，或稍后在状态页输入；不输入也能采集。
    The passphrase may also come from MEDLAKE_EDGE_PASSPHRASE or the status page; input works without it.
    """
    from lake.settings import settings

    os.environ.setdefault(
        "MEDLAKE_HOME", str(folder / "home")
    )  # logs and the audit of look-ups stay with the node
    settings.cache_clear()
    from ingestion.edge import node

    passphrase = os.environ.pop("MEDLAKE_EDGE_PASSPHRASE", "")
    if ask_passphrase:
        passphrase = typer.prompt("口令 / passphrase", hide_input=True)
    _serving(node.run(folder, passphrase))


@app.command("status")
def status(folder: NodeDir = Path("edge"), json: Json = False) -> None:
    """本节点的积压与联络（不需节点在运行）/ a node's backlog, whether it runs or not."""

    def work() -> dict[str, Any]:
        from ingestion.edge import config
        from ingestion.edge.spool import Spool

        home = config.load(folder)
        spool = Spool(folder / "spool.db")
        own, whole = spool.backlog(home.config.node), spool.backlog()
        told = {
            "node": home.config.node,
            "epoch": int(spool.fact("epoch", "1")),
            "waiting_chunks": own.chunks,
            "waiting_records": own.records,
            "waiting_bytes": own.bytes,
            "oldest_at": own.oldest_at,
            "relayed_chunks": whole.chunks - own.chunks,
            "last_contact": spool.fact("last_contact"),
            "offset_ms": spool.fact("offset_ms"),
        }
        spool.close()
        return told

    measured(work, json, "节点 node")


@app.command("centre")
def centre(
    host: Annotated[str, typer.Option(help="监听地址 / address")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="端口 / port")] = 8443,
) -> None:
    """运行中心：双向 TLS 接收各节点数据，落入投递目录 / run the centre: mutual TLS in, drop folder out."""
    from ingestion.edge import centre as room

    _serving(room.serve(host, port))


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A node's line for people."""
    lag = row["lag_seconds"]
    return {
        "节点 node": row["node"],
        "状态 state": " ".join(filter(None, (row["state"], row["trouble"], row["refused"]))),
        "滞后 lag": "—" if lag is None else f"{lag} s" if lag < 600 else f"{lag / 3600:.1f} h",
        "待传 waiting": row["waiting_records"] or 0,
        "待落 pending": row["pending_chunks"],
        "未成 failed": row["failed"],
        "时钟 clock": "—" if row["offset_ms"] is None else f"{row['offset_ms'] / 1000:+.1f} s",
    }


@app.command("nodes")
def nodes(json: Json = False) -> None:
    """各节点的滞后、积压、时钟与故障 / lag, backlog, clock and troubles of each node."""

    def work() -> list[dict[str, Any]]:
        from ingestion.edge import watch

        rows = watch.nodes(datetime.now(UTC))
        if json:
            return rows
        return [_short(r) for r in rows]

    listed(work, json, "前置节点 edge nodes")


@app.command("watch")
def watch(json: Json = False) -> None:
    """为静默或停滞的节点提交待办 / ask people about nodes that are silent or stand still."""

    def work() -> dict[str, Any]:
        from ingestion.edge import watch as room

        return dict(room.ask_about(datetime.now(UTC)))

    measured(work, json, "节点巡检 watch", "medlake worklist list")


@app.command("twins")
def twins(day: Day, json: Json = False) -> None:
    """断网期间在两处登记的同一人，提交主索引审核 / persons registered twice while apart, for identity review."""

    def work() -> dict[str, Any]:
        from ingestion.edge import apart

        return apart.flag(day.date())

    measured(work, json, "断网重登 twins", "medlake worklist list")


@app.command("readmit")
def readmit(node: NodeName, json: Json = False) -> None:
    """准许序号分叉或缺口的节点开始新的一轮 / let a node with a fork or a gap begin another epoch."""

    def work() -> dict[str, Any]:
        from ingestion.edge.pki import Authority

        return {"node": node, "epoch": Authority().register.readmit(node)}

    measured(work, json, "重新准入 readmit", "medlake edge nodes")


@app.command("failed")
def failed(
    retry: Annotated[bool, typer.Option("--retry", help="再试一次 / try them again")] = False,
    json: Json = False,
) -> None:
    """中心未能落入投递目录的数据及其错误编号 / what the centre could not bring into the drop, by error number."""

    def work() -> list[dict[str, Any]]:
        from ingestion.edge import centre_store

        store = centre_store.open_store()
        found = centre_store.failed(store)
        if retry:
            centre_store.try_again(store)
        store.close()
        return found

    listed(work, json, "未落下的数据 failed")


@ca_app.command("init")
def ca_init(json: Json = False) -> None:
    """建立节点证书机构与中心身份 / make the authority and the centre's identity."""

    def work() -> dict[str, Any]:
        from ingestion.edge import pki

        return {"authority": str(pki.init().place)}

    measured(work, json, "证书机构 authority", "medlake edge ca issue C201 --org C201 --out …")


@ca_app.command("issue")
def ca_issue(
    node: NodeName,
    org: Annotated[str, typer.Option(help="机构编码 / institution")],
    out: Annotated[Path, typer.Option(help="节点目录（空）/ an empty folder")],
    parent: Annotated[str, typer.Option(help="上级节点 / parent")] = "centre",
    parent_address: Annotated[
        str, typer.Option(help="上级地址 host:port / the parent's address")
    ] = "127.0.0.1:8443",
    listen: Annotated[str, typer.Option(help="作为上级时的监听 host:port / listens here for stations")] = "",
    page_port: Annotated[int, typer.Option(help="本机状态页端口 / port of the local page")] = 8310,
    mllp_port: Annotated[
        int, typer.Option(help="本机 MLLP 端口，0 为不开 / local MLLP port, 0 for none")
    ] = 0,
    bandwidth: Annotated[
        int, typer.Option(help="带宽上限，字节/秒，0 不限 / bytes a second, 0 for no cap")
    ] = 0,
    unlock: Annotated[
        str, typer.Option(help="居民包解锁：passphrase 或 parent / how the pack is unlocked")
    ] = "passphrase",
    json: Json = False,
) -> None:
    """签发一个节点；重复签发即作废旧身份 / issue a node; issuing again ends its earlier identity."""

    def work() -> dict[str, Any]:
        from ingestion.edge.pki import Authority

        passphrase = os.environ.get("MEDLAKE_EDGE_PASSPHRASE", "")
        if unlock == "passphrase" and not passphrase:
            passphrase = typer.prompt(
                "居民包口令 / the pack's passphrase", hide_input=True, confirmation_prompt=True, err=True
            )
        told: dict[str, object] = {
            "listen": listen,
            "page_port": page_port,
            "mllp_port": mllp_port,
            "bandwidth_bytes_per_second": bandwidth,
            "unlock": unlock,
        }
        made = Authority().issue(
            node,
            org,
            parent,
            out=out,
            parent_address=parent_address,
            passphrase=passphrase,
            settings_of_node=told,
        )
        return {"node": node, "org_code": org, "parent": parent, "folder": str(made)}

    measured(work, json, "签发节点 issue", f"medlake edge run --dir {out}")


@ca_app.command("revoke")
def ca_revoke(node: NodeName, json: Json = False) -> None:
    """作废一个节点的证书，立即生效 / revoke a node's certificates, at once."""

    def work() -> dict[str, Any]:
        from ingestion.edge.pki import Authority

        return {"node": node, "certificates": Authority().revoke(node)}

    measured(work, json, "作废 revoke", "medlake edge nodes")


@pack_app.command("build")
def pack_build(
    day: Day,
    node: Annotated[list[str] | None, typer.Option(help="只做这些节点 / only these nodes")] = None,
    json: Json = False,
) -> None:
    """由治理后的数据生成各节点的居民包 / build the nodes' packs from silver."""

    def work() -> dict[str, Any]:
        from ingestion.edge import pack_build as room

        return room.build(day.date(), node or ())

    measured(work, json, "居民包 packs")
