"""What the tiles ask, on a serving file with known numbers: open, closed, quiet and empty days."""

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dashboards.assets import datasets
from tests.browser import fake_serving

LOCKED = {"enable_external_access": False, "lock_configuration": True}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    fake_serving.build(tmp_path / "serving.duckdb")
    with duckdb.connect(str(tmp_path / "serving.duckdb")) as con:
        yield con


def ask(con: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    return con.sql(datasets.dataset(name).sql).to_arrow_table().to_pylist()


def test_declared_columns_are_those_that_duckdb_gives_under_lock_down(tmp_path: Path) -> None:
    fake_serving.build(tmp_path / "serving.duckdb", closed=True)
    with duckdb.connect(str(tmp_path / "serving.duckdb"), read_only=True, config=LOCKED) as con:
        for name in datasets.names():
            data = datasets.dataset(name)
            assert sorted(con.sql(data.sql).columns) == sorted(column.name for column in data.columns), name


def test_open_day_has_one_banner_row_without_reason(serving: duckdb.DuckDBPyConnection) -> None:
    (row,) = ask(serving, "banner")
    assert (row["date_zh"], row["weekday_zh"]) == ("2026年11月20日", "星期五")
    assert row["published_zh"] == "11月20日 18:05"
    assert not row["is_closed"] and row["label_zh"] is None


def test_closed_gates_stand_in_banner_and_first_in_the_gate_tile(tmp_path: Path) -> None:
    fake_serving.build(tmp_path / "closed.duckdb", closed=True)
    with duckdb.connect(str(tmp_path / "closed.duckdb")) as con:
        banner = ask(con, "banner")
        assert {row["product"]: row["label_zh"] for row in banner} == {
            "chronic_disease": "慢病管理",
            "laboratory": "检验检查",
        }
        assert {row["good_until_zh"] for row in banner} == {"11月19日"}
        assert all(row["is_closed"] and row["closed_gates"] == 2 for row in banner)
        closed = [row for row in ask(con, "gate") if row["is_closed"]]
        assert {row["product"] for row in closed} == {"chronic_disease", "laboratory"}
        assert all(row["reason_zh"] for row in closed)
        assert {row["stale_zh"] for row in ask(con, "district")} == {"数据截至 11月19日"}


def test_product_that_was_never_published_says_so(serving: duckdb.DuckDBPyConnection) -> None:
    serving.execute(
        "UPDATE ops.publication SET gate = 'closed', data_date = NULL, reason_zh = NULL, published_at = NULL"
        " WHERE product = 'laboratory'"
    )
    (banner,) = ask(serving, "banner")
    assert banner["good_until_zh"] == "尚无合格数据"
    (row,) = [row for row in ask(serving, "gate") if row["product"] == "laboratory"]
    assert (row["date_zh"], row["reason_zh"]) == ("尚无", "原因未记录")


@pytest.mark.parametrize(
    ("value", "unit", "shown", "shown_unit"),
    [
        (1185.0, "人次", "1,185", "人次"),
        (0.0, "人次", "0", "人次"),
        (41.52, "万元", "41.52", "万元"),
        (1.07, "万元", "1.07", "万元"),
        (241.52, "万元", "241.5", "万元"),
        (60.567, "%", "60.57", "%"),
        (1234567.0, "元", "123.5", "万元"),
        (99999.0, "元", "99,999", "元"),
        (12345.67, "万元", "12,346", "万元"),
    ],
)
def test_numbers_on_cards(
    serving: duckdb.DuckDBPyConnection, value: float, unit: str, shown: str, shown_unit: str
) -> None:
    serving.execute("UPDATE gold.wall_kpi SET value = ?, unit_zh = ? WHERE ord = 1", [value, unit])
    row = next(row for row in ask(serving, "kpi") if row["ord"] == 1)
    assert (row["value_zh"], row["unit_zh"], row["value"]) == (shown, shown_unit, value)


@pytest.mark.parametrize(
    ("delta", "shown", "trend"),
    [(3.44, "▲ 3.4%", "up"), (-1.08, "▼ 1.1%", "down"), (0.0, "持平", "flat"), (None, None, "flat")],
)
def test_change_on_cards(
    serving: duckdb.DuckDBPyConnection, delta: float | None, shown: str | None, trend: str
) -> None:
    serving.execute("UPDATE gold.wall_kpi SET delta_pct = ? WHERE ord = 2", [delta])
    row = next(row for row in ask(serving, "kpi") if row["ord"] == 2)
    assert (row["delta_zh"], row["trend"]) == (shown, trend)


def test_card_of_an_older_version_says_until_when(serving: duckdb.DuckDBPyConnection) -> None:
    serving.execute("UPDATE gold.wall_kpi SET data_date = ? WHERE ord = 5", [date(2026, 11, 19)])
    assert [row["stale_zh"] for row in ask(serving, "kpi") if row["stale_zh"]] == ["截至 11月19日"]


def test_quiet_day_keeps_one_row_so_that_the_tile_can_say_so(tmp_path: Path) -> None:
    fake_serving.build(tmp_path / "quiet.duckdb", quiet=True)
    with duckdb.connect(str(tmp_path / "quiet.duckdb")) as con:
        (alert,) = ask(con, "alert")
        assert alert["alerts"] == 0 and alert["ord"] is None
        (flow,) = ask(con, "referral")
        assert flow["kind"] is None and flow["up_zh"] == "0"


def test_flow_drawing_keeps_every_referral_and_stays_in_its_frame(serving: duckdb.DuckDBPyConnection) -> None:
    rows = ask(serving, "referral")
    nodes = [row for row in rows if row["is_node"]]
    ribbons = [row for row in rows if row["is_ribbon"]]
    (total,) = serving.sql("SELECT sum(referrals)::BIGINT FROM gold.referral_flow").fetchone() or (None,)

    def counted(kept: list[dict[str, Any]]) -> int:
        return sum(int(row["referrals_zh"].replace(",", "")) for row in kept)

    assert counted(ribbons) == total
    assert (
        counted([n for n in nodes if n["is_left"]])
        == counted([n for n in nodes if not n["is_left"]])
        == total
    )
    for side in (True, False):
        column = sorted((n for n in nodes if n["is_left"] is side), key=lambda n: n["y"])
        assert column[0]["y"] >= -0.1 and column[-1]["y"] + column[-1]["height"] <= 182.1
        places = [n["label_y"] for n in column]
        assert all(b - a >= 13 for a, b in pairwise(places)), "labels overlap"
    assert len([n for n in nodes if n["is_left"]]) <= 8


def test_trend_shows_missing_days_as_zero_and_keeps_its_frame(serving: duckdb.DuckDBPyConnection) -> None:
    serving.execute(
        "DELETE FROM gold.daily_encounter WHERE visit_date = DATE '2026-11-10' AND class_code = 'EMER'"
    )
    areas = [row for row in ask(serving, "trend") if row["is_area"]]
    assert [row["class_code"] for row in areas] == ["AMB", "EMER", "IMP"]
    for row in areas:
        points = [tuple(map(float, point.split())) for point in row["line"][1:].split("L")]
        assert len(points) == 42
        assert all(46 <= x <= 422 and 38 <= y <= 206 for x, y in points)
    newest = serving.sql(
        "SELECT class_code, sum(encounters)::BIGINT FROM gold.daily_encounter"
        " WHERE visit_date = DATE '2026-11-20' GROUP BY 1"
    )
    assert {row["class_code"]: row["newest"] for row in areas} == dict(newest.fetchall())


def test_unknown_classes_of_visit_stand_together(serving: duckdb.DuckDBPyConnection) -> None:
    for code in ("特需", "X9"):
        serving.execute(
            "UPDATE gold.daily_encounter SET class_code = ?, class_zh = ? WHERE class_code = 'IMP' AND hash(org_code) % 2 = ?",
            [code, code, int(code == "X9")],
        )
    areas = [row for row in ask(serving, "trend") if row["is_area"]]
    assert {row["class_code"]: row["class_zh"] for row in areas} == {
        "AMB": "门诊",
        "EMER": "急诊",
        "OTHER": "其他",
    }


def test_ranking_is_the_week_summed(serving: duckdb.DuckDBPyConnection) -> None:
    truth = serving.sql(
        "SELECT org_code, sum(encounters)::BIGINT AS n FROM gold.daily_encounter"
        " WHERE visit_date BETWEEN DATE '2026-11-14' AND DATE '2026-11-20' GROUP BY 1 ORDER BY n DESC, 1 LIMIT 12"
    ).fetchall()
    ranked = sorted(ask(serving, "ranking"), key=lambda row: row["place"])
    assert [(row["org_code"], row["encounters"]) for row in ranked] == truth


def test_ledger_out_of_balance_is_not_called_balanced(serving: duckdb.DuckDBPyConnection) -> None:
    assert ask(serving, "ledger")[0]["is_balanced"]
    serving.execute("UPDATE ops.run_info SET loaded = loaded - 1")
    assert not ask(serving, "ledger")[0]["is_balanced"]


def test_empty_marts_break_no_tile(serving: duckdb.DuckDBPyConnection) -> None:
    tables = serving.sql("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'").fetchall()
    for (table,) in tables:
        serving.execute(f"DELETE FROM gold.{table}")
    counts = {name: len(ask(serving, name)) for name in datasets.names()}
    assert counts["banner"] == counts["alert"] == counts["referral"] == 1
    assert counts["gate"] == 8


def test_the_gravest_alert_stands_first_and_says_where(serving: duckdb.DuckDBPyConnection) -> None:
    serving.execute("DELETE FROM gold.wall_alert")
    serving.execute(
        "INSERT INTO gold.wall_alert (occurred_at, alert_kind, kind_zh, severity, org_short_name, text_zh) VALUES"
        " ('2026-11-20 23:59:00+08', 'late_delivery', '数据迟交', 'warn', '全集团', '影像归档系统数据未送达'),"
        " ('2026-11-20 12:32:00+08', 'lab_critical', '危急值', 'error', '云溪医院', '白细胞计数危急值 1 例'),"
        " ('2026-11-20 08:00:00+08', 'followup_overdue', '随访逾期', 'info', '东渡', '慢病随访逾期两周以上 1 人')"
    )
    assert [row["text_zh"] for row in ask(serving, "alert")] == [
        "云溪医院 白细胞计数危急值 1 例",
        "影像归档系统数据未送达",
        "东渡 慢病随访逾期两周以上 1 人",
    ]
