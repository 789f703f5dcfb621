"""``medlake listen``: doors that stay open until they are told to stop (SIGTERM, Ctrl-C)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Day, Json, measured

app = typer.Typer(help="常开的接收端口 / receivers that stay open: HL7 over MLLP, MQTT", no_args_is_help=True)


@app.callback()
def listen() -> None:
    """常开的接收端口 / receivers that stay open."""


@app.command()
def mllp(
    port: Annotated[int, typer.Option(help="端口，0 为任取一个 / port, 0 takes a free one")] = 2575,
    host: Annotated[str | None, typer.Option(help="监听地址 / address to bind")] = None,
    feed: Annotated[str, typer.Option(help="投递到哪个数据源 / feed it is handed to")] = "hl7v2",
    org: Annotated[str, typer.Option(help="本端口只属于该机构 / the door is this institution's alone")] = "",
    org_map: Annotated[
        Path | None, typer.Option(help="MSH-4 到机构代码的对照表（YAML）/ sending facility to institution")
    ] = None,
    door: Annotated[
        str, typer.Option(help="端口名，每个同时运行的端口各取其名 / name; each running door has its own")
    ] = "mllp",
    seal_seconds: Annotated[
        float, typer.Option(help="至多多少秒投递一次 / hand over at least this often")
    ] = 30.0,
    seal_mb: Annotated[int, typer.Option(help="至多多少 MB 投递一次 / hand over at this size")] = 16,
    json: Json = False,
) -> None:
    """接收 HL7 v2 消息：落盘后才应答 AA / take HL7 v2 over MLLP: AA only when the message is on disk."""

    def ready(bound: int) -> None:
        sys.stderr.write(f"MLLP {bound}\n")
        sys.stderr.flush()

    def work() -> dict[str, Any]:
        import asyncio

        from ingestion.receive import facilities, mllp_door
        from lake.errors import MedlakeError
        from lake.settings import settings

        known = facilities.load(org_map, org)
        try:
            return asyncio.run(
                mllp_door.serve(
                    host or settings().host,
                    port,
                    known,
                    door=door,
                    feed=feed,
                    seal_bytes=seal_mb << 20,
                    seal_seconds=seal_seconds,
                    ready=ready,
                )
            )
        except OSError as error:
            raise MedlakeError(
                "E254", place=f"{host or settings().host}:{port}", detail=error.strerror
            ) from error

    measured(work, json, "接收 HL7 / listening")


@app.command()
def mqtt(
    broker: Annotated[str, typer.Option(help="消息代理 主机:端口 / broker host:port")] = "127.0.0.1:1883",
    client_id: Annotated[
        str, typer.Option(help="会话标识，同一标识只能有一个监听 / names the session; one listener each")
    ] = "medlake",
    username: Annotated[str | None, typer.Option(help="账号 / user")] = None,
    password_file: Annotated[Path | None, typer.Option(help="口令文件 / file with the password")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="代理证书的 CA，给出即用 TLS / CA of the broker; TLS then")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="客户端证书 / our certificate")] = None,
    key: Annotated[Path | None, typer.Option(help="客户端私钥 / its key")] = None,
    batch_seconds: Annotated[
        float, typer.Option(min=0.5, help="至多多少秒入库一次 / into the lake at least this often")
    ] = 5.0,
    ingest: Annotated[
        bool,
        typer.Option("--ingest/--no-ingest", help="是否随即入库，否则只投递 / ingest, or only hand over"),
    ] = True,
    json: Json = False,
) -> None:
    """订阅 hmg/#：落盘后才确认，微批入库 / take hmg/#: acknowledged when on disk, ingested in micro-batches."""

    def ready() -> None:
        sys.stderr.write(f"MQTT {broker}\n")
        sys.stderr.flush()

    def work() -> dict[str, Any]:
        import asyncio

        from ingestion.receive import mqtt_door
        from ingestion.receive.mqtt import Broker

        host, _, port = broker.rpartition(":")
        session = Broker(host, int(port), client_id, username, password_file, ca, cert, key)
        return asyncio.run(mqtt_door.serve(session, batch_seconds=batch_seconds, ingest=ingest, ready=ready))

    measured(work, json, "接收 MQTT / listening")


@app.command()
def devices(day: Day, json: Json = False) -> None:
    """设备体检：时钟偏差、序号缺口、乱序、未绑定 / clocks, gaps, order and bindings of a day's devices."""

    def work() -> dict[str, Any]:
        from ingestion import iot

        return iot.report(day.date())

    measured(work, json, "设备 devices")
