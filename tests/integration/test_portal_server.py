"""The portal as it runs: uvicorn on a free loopback port, asked over HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

import products
from lake.settings import settings
from tests import products_world as world
from tests.conftest import free_port

SERVE = (
    "import uvicorn; from portal import create_app; from lake.settings import settings as s; "
    "uvicorn.run(create_app(), host=s().host, port=s().portal_port, log_level='warning')"
)
PAGES = [
    "/",
    "/quality/",
    "/ledger",
    "/catalogue",
    "/catalogue?q=收缩压",
    "/catalogue/gold.htn_management",
    "/nope",
]
_LINK = re.compile(r"""(?:href|src|action|url\()\s*=?\s*["']?([a-z]+:)?//([^"'/)]+)""", re.I)


@dataclass
class Portal:
    base: str
    words: dict[str, str]
    home: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str, user: str | None = "steward") -> httpx.Response:
        return httpx.get(self.base + path, auth=(user, self.words[user]) if user else None, timeout=30)


def start(home: Path) -> Portal:
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")}
    env |= {"MEDLAKE_HOME": str(home), "MEDLAKE_PORTAL_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=env)
    base = f"http://127.0.0.1:{port}"
    while True:  # ends by an answer or by the server's own end
        assert process.poll() is None, "the portal ended before it answered"
        try:
            assert httpx.get(base + "/healthz").json() == {"status": "ok"}
            break
        except httpx.TransportError:
            time.sleep(0.1)
    return Portal(base, json.loads((home / "secrets" / "portal.json").read_text("utf-8")), home, process)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    home = tmp_path_factory.mktemp("portal") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.day(world.DAY_1)
        products.publish(world.DAY_1)
        page = home / "quality" / "page"
        page.mkdir(parents=True)
        (page / "index.html").write_text('<link rel="stylesheet" href="page.css"><h1>质控页</h1>', "utf-8")
        (page / "page.css").write_text("h1 { color: teal }", "utf-8")
        running = start(home)
        yield running
        running.process.terminate()
        running.process.wait()
    settings.cache_clear()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_closed_without_login_and_kept_to_itself_with(portal: Portal, path: str) -> None:
    refused = portal.get(path, None)
    assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
    assert "请先登录" in refused.text
    answer = portal.get(path)
    assert answer.status_code == (404 if path == "/nope" else 200)
    for response in (refused, answer):
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        hosts = {host.split(":")[0] for _, host in _LINK.findall(response.text)}
        assert hosts <= {"127.0.0.1"}, hosts
        assert not re.search(
            r'<script(?! src="/static/[^"]+" defer></script>)|<style|\sstyle=|\son[a-z]+=',
            response.text,
            re.I,
        )


def test_nothing_static_points_outside(portal: Portal) -> None:
    for name in ("portal.css", "logo.svg"):
        answer = portal.get(f"/static/{name}", None)
        assert answer.status_code == 200 and "content-security-policy" in answer.headers
        assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", answer.text)
    assert portal.get("/static/", None).status_code == 404


def test_no_swagger_page_but_a_description(portal: Portal) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert portal.get(path).status_code == 404
    assert portal.get("/api/openapi.json", None).status_code == 401
    assert "/api/ledger" in portal.get("/api/openapi.json").json()["paths"]


def test_pages_and_their_json_twins_say_the_same(portal: Portal) -> None:
    ledger = portal.get("/api/ledger").json()
    assert ledger["totals"] == {"received": 120, "loaded": 110, "duplicate": 7, "quarantined": 3}
    assert "2026-11-18" in (text := portal.get("/ledger").text) and "已平账" in text and ">110<" in text
    published = portal.get("/api/publication").json()
    assert {row["gate"] for row in published["publication"]} == {"open"}
    assert published["run"]["persons"] == world.PERSONS
    assert portal.get("/").text.count(">开放<") == len(published["publication"])
    found = portal.get("/api/catalogue?q=收缩压").json()["assets"]
    assert [a["asset_id"] for a in found] == ["gold.htn_management"]
    assert "last_sbp_mmhg" in found[0]["hit_fields"]
    assert portal.get("/api/catalogue/gold.nothing").json()["status"] == 404


def test_search_text_stays_text(portal: Portal) -> None:
    hostile = "<b>'; DROP TABLE gold.catalog_asset --%"
    answer = portal.get("/catalogue?q=" + httpx.QueryParams({"q": hostile})["q"].replace("%", "%25"))
    assert answer.status_code == 200 and "&lt;b&gt;" in answer.text and "<b>'" not in answer.text
    assert len(portal.get("/api/catalogue").json()["assets"]) == 2


def test_roles(portal: Portal) -> None:
    refused = portal.get("/quality/", "researcher")
    assert refused.status_code == 403 and "无权查看" in refused.text
    assert portal.get("/api/ledger", "researcher").json()["status"] == 403
    assert portal.get("/quality/", "officer").status_code == 200
    assert "/ledger" not in portal.get("/", "researcher").text


def test_the_quality_page_and_its_assets(portal: Portal) -> None:
    assert "质控页" in portal.get("/quality/").text
    style = portal.get("/quality/page.css")
    assert style.headers["content-type"].startswith("text/css")
    assert portal.get("/quality/page.css", None).status_code == 401


def test_a_swap_shows_at_once(portal: Portal) -> None:
    world.day(world.DAY_2, closed={"laboratory": "检验量突降"})
    products.publish(world.DAY_2)
    state = portal.get("/api/publication").json()
    assert state["run"]["data_date"] == "2026-11-19"
    page = portal.get("/").text
    assert "1 个质控门关闭" in page and "检验量突降" in page


def test_it_listens_on_loopback_alone(portal: Portal) -> None:
    family = [
        psutil.Process(portal.process.pid),
        *psutil.Process(portal.process.pid).children(recursive=True),
    ]
    listening = [
        c.laddr for p in family for c in p.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", listening[0].port)) == 0


def test_before_anything_is_published(tmp_path: Path) -> None:
    running = start(tmp_path / "var")
    try:
        home = running.get("/")
        assert home.status_code == 200 and "还没有发布过数据" in home.text
        assert "还没有任何批次" in running.get("/ledger").text
        assert "质控页尚未生成" in running.get("/quality/").text
        catalogue = running.get("/catalogue")
        assert catalogue.status_code == 503 and "数据尚未发布" in catalogue.text
        assert running.get("/api/catalogue").json()["status"] == 503
    finally:
        running.process.terminate()
        running.process.wait()
