"""Charts of the wall: each is a drawn tile, a Handlebars template over one dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dashboards.assets.datasets import dataset
from dashboards.assets.identity import VERSION, identity

TILES = Path(__file__).with_name("tiles")
SCENERY = Path(__file__).resolve().parents[1] / "geometry" / "scenery.yaml"


@dataclass(frozen=True)
class Chart:
    """`data` names the dataset; `params` is what Superset's chart editor would have saved."""

    key: str
    title: str
    data: str
    viz: str
    params: dict[str, Any] = field(repr=False)

    @property
    def uuid(self) -> str:
        return identity("chart", self.key)


def drawn(key: str, title: str, *order: str) -> Chart:
    """A tile out of sql/<key>.sql and tiles/<key>.hbs; rows arrive in the `order` of these columns ("-" = down)."""
    columns = [column.name for column in dataset(key).columns]
    return Chart(
        key,
        title,
        key,
        "handlebars",
        {
            "query_mode": "raw",
            "all_columns": columns,
            "order_by_cols": [f'["{name.lstrip("-")}", {"false" if name.startswith("-") else "true"}]' for name in order],
            "row_limit": 1000,
            "handlebarsTemplate": template(key),
            "styleTemplate": "",
        },
    )  # fmt: skip


def template(key: str) -> str:
    """The tile's template on one line: a blank or indented line would start a Markdown paragraph or code block."""
    text = (TILES / f"{key}.hbs").read_text("utf-8")
    if key == "district":
        for mark, value in scenery().items():
            text = text.replace(f"@{mark}@", value)
    return "".join(line.strip() for line in text.splitlines())


def scenery() -> dict[str, str]:
    """Lake, river and borders as paths; the hospitals as a group of crosses with their names."""
    drawing = yaml.safe_load(SCENERY.read_text("utf-8"))
    cross = '<g class="map-hospital" transform="translate({x} {y})"><circle r="9"></circle><path d="M-5 0H5M0 -5V5"></path><text x="13" y="6">{name}</text></g>'  # noqa: E501
    drawing["hospitals"] = "".join(cross.format(**hospital) for hospital in drawing["hospitals"])
    return {mark: str(value) for mark, value in drawing.items()}


CHARTS = [
    drawn("banner", "标题", "product"),
    drawn("kpi", "核心指标", "ord"),
    drawn("trend", "近六周诊疗人次", "ord", "y"),
    drawn("ranking", "机构诊疗量排行（近 7 日）", "place"),
    drawn("district", "各街镇高血压规范管理率", "org_code"),
    drawn("heat", "就诊时段热力（近 28 日）", "weekday_no", "hour"),
    drawn("referral", "双向转诊流向（近 90 日）", "-kind", "-height", "name"),
    drawn("gate", "数据新鲜度与质控门", "-is_closed", "label_zh"),
    drawn("ledger", "当日批次台账"),
    drawn("alert", "实时预警", "ord"),
]


def document(chart: Chart) -> dict[str, Any]:
    """Superset's import document of a chart."""
    return {
        "slice_name": chart.title,
        "viz_type": chart.viz,
        "params": {"viz_type": chart.viz, "adhoc_filters": [], **chart.params},
        "query_context": None,
        "cache_timeout": None,
        "uuid": chart.uuid,
        "version": VERSION,
        "dataset_uuid": identity("dataset", chart.data),
    }
