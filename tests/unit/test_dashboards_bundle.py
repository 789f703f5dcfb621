"""The wall's documents fit together before any Superset sees them."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from dashboards.assets import bundle, charts, datasets, layout, topics, wall

URI = "duckdb:////somewhere/serving.duckdb"


def documents() -> dict[str, dict[str, object]]:
    return bundle.documents(URI, {"read_only": True})


def test_same_code_gives_the_same_text_and_every_asset_its_own_uuid() -> None:
    first = {path: bundle.dump(document) for path, document in documents().items()}
    second = {path: bundle.dump(document) for path, document in documents().items()}
    assert first == second
    uuids = [document["uuid"] for document in documents().values()]
    assert len(set(uuids)) == len(uuids)


@pytest.mark.parametrize("chart", charts.CHARTS, ids=lambda chart: chart.key)
def test_template_uses_only_columns_of_its_dataset(chart: charts.Chart) -> None:
    columns = {column.name for column in datasets.dataset(chart.data).columns}
    template = chart.params["handlebarsTemplate"]
    named = set(re.findall(r"{{(?:#if |#each |#with )?(?:data\.\[0\]\.)?([a-z_]+)}}", template)) - {
        "data",
        "else",
    }
    assert named, "a tile that shows nothing of its data"
    assert named <= columns
    used_in_order = {re.sub(r'^\["(\w+)".*', r"\1", order) for order in chart.params["order_by_cols"]}
    assert used_in_order <= columns


@pytest.mark.parametrize("chart", charts.CHARTS, ids=lambda chart: chart.key)
def test_template_is_one_line_with_balanced_blocks(chart: charts.Chart) -> None:
    template = chart.params["handlebarsTemplate"]
    assert "\n" not in template
    assert "@" not in re.sub(r"@first|@last|@index", "", template), "scenery left unfilled"
    for block in ("if", "each", "with"):
        assert template.count("{{#" + block) == template.count("{{/" + block + "}}")
    assert len(re.findall(r"<div\b", template)) == template.count("</div>")


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path, document in documents().items():
        text = bundle.dump(document)
        assert not re.search(r"https?://|@import|url\(", text), path


def test_every_dataset_names_the_published_file_in_its_cache_key() -> None:
    for name in datasets.names():
        sql = datasets.document(datasets.dataset(name))["sql"]
        assert sql.startswith("/* {{ cache_key_wrapper(serving_version()) }} */")


def test_columns_fill_the_grid_and_every_chart_has_a_place() -> None:
    placed = set()
    heights = set()
    for row in wall.rows():
        assert sum(item.width for item in row) == 12
        for item in row:
            if isinstance(item, layout.Place):
                placed.add(item.chart.key)
                continue
            height = 0
            for inner in item.items:
                cells = inner if isinstance(inner, list) else [inner]
                assert sum(cell.width for cell in cells) == item.width
                placed |= {cell.chart.key for cell in cells}
                height += cells[0].height * 8 + 16
            heights.add(height)
    assert placed == {chart.key for chart in charts.CHARTS}
    assert len(heights) == 1, "columns end at different heights"


@pytest.mark.parametrize(("dashboard", "shown"), [(wall, charts.CHARTS), (topics, topics.CHARTS)])
def test_position_knows_every_chart_once(dashboard: ModuleType, shown: list[charts.Chart]) -> None:
    nodes = dashboard.document()["position"]
    uuids = [
        node["meta"]["uuid"] for node in nodes.values() if isinstance(node, dict) and node["type"] == "CHART"
    ]
    assert sorted(uuids) == sorted(chart.uuid for chart in shown)
    children = [
        child for node in nodes.values() if isinstance(node, dict) for child in node.get("children", [])
    ]
    assert len(set(children)) == len(children)
    assert set(children) == set(nodes) - {"ROOT_ID", "HEADER_ID", "DASHBOARD_VERSION_KEY"}


def test_sql_files_declare_and_are_all_used() -> None:
    used = {chart.data for chart in [*charts.CHARTS, *topics.CHARTS]}
    assert used == set(datasets.names())
    for path in Path(datasets.SQL).glob("*.sql"):
        lines = path.read_text("utf-8").splitlines()
        assert lines[0].startswith("-- columns: ")
        assert any(line.startswith("-- grain: ") for line in lines[:3]), path.name


@pytest.mark.parametrize("chart", topics.CHARTS, ids=lambda chart: chart.key)
def test_columns_that_people_read_have_chinese_labels(chart: charts.Chart) -> None:
    assert all(column.label_zh for column in datasets.dataset(chart.data).columns)
