"""Superset itself, set up from nothing: idempotent, closed to the world, Chinese, and honest about its data."""

import json
import secrets
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page

from tests.browser.wall_page import WAIT_MS, WallPage, browser_page
from tests.browser.wall_server import PYTHON, ROOT, WallServer
from tests.conftest import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WallServer]:
    """Set up before any serving file exists, then served."""
    server = WallServer(tmp_path_factory.mktemp("wall"), free_port())
    assert not server.serving.exists()
    assert server.set_up()["skipped"] is False
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as page:
        yield page


def log_in(page: Page, server: WallServer) -> None:
    links = server.links()
    page.goto(links["login_page"])
    page.fill('[data-test="username-input"]', links["user"])
    page.fill('[data-test="password-input"]', links["password"])
    page.click('[data-test="login-button"]')
    page.wait_for_url(lambda url: "/login" not in url, timeout=WAIT_MS)


def counts(server: WallServer) -> dict[str, int]:
    tables = (
        "dbs",
        "tables",
        "slices",
        "dashboards",
        "themes",
        "ab_user",
        "ab_role",
        "ab_permission_view_role",
    )
    with sqlite3.connect(server.home / "superset" / "superset.db") as con:
        return {table: con.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def test_second_set_up_does_nothing_and_a_forced_one_changes_no_count(server: WallServer) -> None:
    before = counts(server)
    assert server.set_up()["skipped"] is True
    assert server.set_up("--force")["skipped"] is False
    assert counts(server) == before
    assert (before["dashboards"], before["slices"], before["tables"]) == (2, 14, 13)


def test_set_up_that_was_killed_starts_over(tmp_path: Path) -> None:
    server = WallServer(tmp_path, free_port())
    draft = tmp_path / "superset" / "superset.db.new"
    process = subprocess.Popen([str(PYTHON), "-m", "dashboards.provision"], env=server.env, cwd=ROOT)
    while not (draft.exists() and draft.stat().st_size > 100_000):
        assert process.poll() is None, "the set-up ended before it could be killed"
    process.kill()
    process.wait()
    assert not (tmp_path / "superset" / "superset.db").exists()
    assert server.set_up()["skipped"] is False
    assert counts(server)["slices"] == 14


def test_listens_on_loopback_only(server: WallServer) -> None:
    assert server.process is not None
    family = psutil.Process(server.process.pid)
    listening = [
        c.laddr.ip
        for process in [family, *family.children(recursive=True)]
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_login_page_is_chinese_and_asks_nobody_else(server: WallServer, page: Page) -> None:
    finished: list[str] = []
    page.on("requestfinished", lambda request: finished.append(request.url))
    page.goto(server.base + "/login/")
    page.wait_for_selector('[data-test="login-button"]', timeout=WAIT_MS)
    assert page.inner_text('[data-test="login-button"]').replace(" ", "") == "登录"
    text = page.inner_text("body")
    assert "请输入用户名和密码" in text and "Not In" not in text
    assert all(url.startswith((server.base, "data:", "blob:")) for url in finished)


@pytest.mark.parametrize("path", ["/kiosk/wrong", "/kiosk/", "/kiosk/%E4%BD%A0"])
def test_kiosk_without_its_token_is_not_there(server: WallServer, path: str) -> None:
    assert server.get(path)[0] == 404


def test_wall_needs_a_login(server: WallServer) -> None:
    status, text = server.get("/superset/dashboard/led-wall/?standalone=1")
    assert status in (200, 403, 404) and "data-bootstrap" in text
    assert server.get("/api/v1/chart/")[0] in (200, 401, 403)
    assert "实时预警" not in server.get("/api/v1/chart/")[1]


def test_a_swap_shows_at_the_next_load_open_closed_and_quiet(server: WallServer, page: Page) -> None:
    server.publish("open")
    wall = WallPage.open(page, server.links()["kiosk"])
    assert wall.closed_banner() == []
    assert {row["gate"] for row in wall.gates().values()} == {"open"}
    assert wall.kpis()["encounters"][1].endswith("人次")
    assert not [tile for tile, cut in wall.overflowing() if cut]

    server.publish("closed", closed=True)
    wall.reload()
    assert [text.split(" ")[1] for text in wall.closed_banner()] == ["慢病管理", "检验检查"]
    gates = wall.gates()
    assert set(list(gates)[:2]) == {"chronic_disease", "laboratory"}, "closed gates stand first"
    assert gates["chronic_disease"]["date"] == "11月19日"
    assert "超过上限" in gates["chronic_disease"]["reason"]
    assert "数据截至 11月19日" in wall.tile_text("district")
    assert not [tile for tile, cut in wall.overflowing() if cut]

    server.publish("blackout", blackout=True)
    wall.reload()
    assert len(wall.closed_banner()) == 8
    assert {row["gate"] for row in wall.gates().values()} == {"closed"}
    assert not [tile for tile, cut in wall.overflowing() if cut]

    server.publish("quiet", quiet=True)
    wall.reload()
    assert "今日无预警" in wall.tile_text("alert")
    assert "无双向转诊" in wall.tile_text("referral")
    assert wall.closed_banner() == []


def test_wall_refreshes_by_itself(server: WallServer, page: Page) -> None:
    server.publish("before")
    wall = WallPage.open(page, server.links()["kiosk"])
    assert wall.closed_banner() == []
    server.publish("after", closed=True)
    # The interval is 30 s; nobody touches the page.
    page.wait_for_selector("[data-closed]", timeout=WAIT_MS)


def test_kiosk_sees_the_wall_and_may_not_query(server: WallServer, page: Page) -> None:
    server.publish("open")
    WallPage.open(page, server.links()["kiosk"])
    for path in ("/api/v1/database/", "/api/v1/query/", "/sqllab/"):
        response = page.request.get(server.base + path)
        assert response.status in (401, 403, 404) or response.url != server.base + path
        assert "duckdb" not in response.text()


def test_topics_draw_their_tables_in_chinese(server: WallServer, page: Page) -> None:
    server.publish("open")
    log_in(page, server)
    page.goto(server.base + "/superset/dashboard/chronic/")
    page.wait_for_selector('[data-test-chart-name="慢病管理明细（机构 × 病种）"] td', timeout=WAIT_MS)
    heads = page.locator('[data-test-chart-name="慢病管理明细（机构 × 病种）"] th').all_inner_texts()
    assert [head.strip() for head in heads][:3] == ["病种", "机构", "在管人数"]
    page.wait_for_selector('[data-test-chart-name="各机构规范管理率与控制率"] canvas', timeout=WAIT_MS)


FORBIDDEN = (
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "ATTACH '/tmp/elsewhere.duckdb' AS other",
    "SET enable_external_access = true",
    "CREATE TABLE gold.mine AS SELECT 1 AS a",
)


def test_even_an_administrator_reads_no_files_and_writes_nothing(server: WallServer, page: Page) -> None:
    server.publish("open")
    log_in(page, server)
    token = json.loads(page.request.get(server.base + "/api/v1/security/csrf_token/").text())["result"]
    headers = {"X-CSRFToken": token, "Referer": server.base}

    def run(sql: str) -> tuple[int, str]:
        # Superset keeps each client_id once.
        body = {"database_id": 1, "schema": "gold", "client_id": secrets.token_hex(5), "sql": sql}
        response = page.request.post(server.base + "/api/v1/sqllab/execute/", data=body, headers=headers)
        return response.status, response.text()

    status, text = run("SELECT count(*) AS products FROM ops.publication")
    assert status == 200 and json.loads(text)["data"] == [{"products": 8}]
    for sql in FORBIDDEN:
        status, text = run(sql)
        assert status >= 400, sql
        assert "root:" not in text and "SUPERSET_SECRET_KEY=" not in text, sql
