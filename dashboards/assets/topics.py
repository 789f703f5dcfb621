"""慢病与质控专题: Superset's own tables and bars, to sort, filter and drill where the wall only shows."""

from typing import Any

from dashboards.assets.charts import Chart
from dashboards.assets.datasets import dataset
from dashboards.assets.identity import VERSION, identity
from dashboards.assets.layout import Column, Place, position

SLUG = "chronic"
TITLE = "慢病管理与数据质控专题"

_PERCENT = {"d3NumberFormat": ".1%", "horizontalAlign": "right"}


def _table(key: str, title: str, data: str, order: str, **params: Any) -> Chart:
    """A table of every column of the dataset, sorted by `order` ("-" = down)."""
    return Chart(
        key,
        title,
        data,
        "table",
        {
            "query_mode": "raw",
            "all_columns": [column.name for column in dataset(data).columns],
            "order_by_cols": [f'["{order.lstrip("-")}", {"false" if order.startswith("-") else "true"}]'],
            "row_limit": 1000,
            "table_timestamp_format": "smart_date",
            "show_cell_bars": True,
            "include_search": True,
            "page_length": 0,
            **params,
        },
    )


def _below(column: str, target: float, colour: str) -> dict[str, Any]:
    return {"column": column, "operator": "<", "targetValue": target, "colorScheme": colour}


def _weighted(share: str, label: str) -> dict[str, Any]:
    """A rate over institutions: sums over sums, never a mean of rates."""
    return {
        "expressionType": "SQL",
        "sqlExpression": f"SUM({share}) * 1.0 / NULLIF(SUM(managed), 0)",
        "label": label,
        "hasCustomLabel": True,
        "optionName": f"metric_{share}",
    }


CHARTS = [
    Chart(
        "chronic_rates",
        "各机构规范管理率与控制率",
        "chronic",
        "echarts_timeseries_bar",
        {
            "x_axis": "org_short_name",
            "metrics": [_weighted("standard_managed", "规范管理率"), _weighted("controlled", "控制率")],
            "groupby": [],
            "row_limit": 100,
            "x_axis_sort": "规范管理率",
            "x_axis_sort_asc": False,
            "color_scheme": "ledNeon",
            "show_legend": True,
            "legendType": "plain",
            "legendOrientation": "top",
            "y_axis_format": ".0%",
            "y_axis_bounds": [0, 1],
            "rich_tooltip": True,
            "xAxisLabelRotation": 45,
        },
    ),
    _table(
        "chronic_table",
        "慢病管理明细（机构 × 病种）",
        "chronic",
        "-managed",
        column_config={"standard_rate": _PERCENT, "control_rate": _PERCENT},
        conditional_formatting=[
            _below("standard_rate", 0.6, "#FF4D6D"),
            _below("control_rate", 0.5, "#FFB020"),
        ],
    ),
    _table(
        "indicator_table",
        "全集团指标",
        "group_indicator",
        "indicator_code",
        show_cell_bars=False,
        column_config={
            "label_zh": {"columnWidth": 230},
            "value": {"d3NumberFormat": ",.2f"},
            "numerator": {"d3NumberFormat": ",.0f"},
            "denominator": {"d3NumberFormat": ",.0f"},
        },
    ),
    _table(
        "quality_table",
        "各机构数据质控得分",
        "quality",
        "score",
        column_config={"score": {"d3NumberFormat": ".2f"}},
        conditional_formatting=[_below("score", 90, "#FF4D6D")],
    ),
]


def rows() -> list[list[Place | Column]]:
    rates, managed, indicators, quality = CHARTS
    return [
        [Place(rates, 6, 52), Place(quality, 6, 52)],
        [Place(managed, 6, 64), Place(indicators, 6, 64)],
    ]


def document() -> dict[str, Any]:
    """Superset's import document of the dashboard, with filters by disease and institution."""
    return {
        "dashboard_title": TITLE,
        "description": "慢病规范管理、全集团指标与各机构质控得分",
        "css": "",
        "slug": SLUG,
        "published": True,
        "uuid": identity("dashboard", SLUG),
        "position": position(TITLE, rows()),
        "metadata": {
            "timed_refresh_immune_slices": [],
            "expanded_slices": {},
            "refresh_frequency": 300,
            "default_filters": "{}",
            "color_scheme": "ledNeon",
            "label_colors": {},
            "shared_label_colors": [],
            "cross_filters_enabled": True,
            "native_filter_configuration": [_filter("disease_zh", "病种"), _filter("org_short_name", "机构")],
            "chart_configuration": {},
            "global_chart_configuration": {
                "scope": {"rootPath": ["ROOT_ID"], "excluded": []},
                "chartsInScope": [],
            },
        },
        "theme_uuid": identity("theme", "wall"),
        "version": VERSION,
    }


def _filter(column: str, label: str) -> dict[str, Any]:
    return {
        "id": f"NATIVE_FILTER-{column}",
        "name": label,
        "type": "NATIVE_FILTER",
        "filterType": "filter_select",
        "description": "",
        "scope": {"rootPath": ["ROOT_ID"], "excluded": []},
        "cascadeParentIds": [],
        "targets": [{"column": {"name": column}, "datasetUuid": identity("dataset", "chronic")}],
        "defaultDataMask": {"extraFormData": {}, "filterState": {}, "ownState": {}},
        "controlValues": {
            "multiSelect": True,
            "enableEmptyFilter": False,
            "defaultToFirstItem": False,
            "inverseSelection": False,
            "searchAllOptions": False,
        },
    }
