"""The operations wall: which tile stands where on 1920 x 1080, and its theme."""

from pathlib import Path
from typing import Any

from dashboards.assets.charts import CHARTS
from dashboards.assets.identity import VERSION, identity
from dashboards.assets.layout import Column, Place, position

SLUG = "led-wall"
TITLE = "医湖市医疗集团运营指挥中心"
CSS = Path(__file__).with_name("wall.css")
REFRESH_SECONDS = 30

_BY_KEY = {chart.key: chart for chart in CHARTS}


def _place(key: str, width: int, height: int) -> Place:
    return Place(_BY_KEY[key], width, height)


def rows() -> list[list[Place | Column]]:
    return [
        [_place("banner", 12, 13)],
        [_place("kpi", 12, 14)],
        [
            Column(3, [_place("trend", 3, 38), _place("ranking", 3, 61)]),
            Column(6, [_place("district", 6, 65), [_place("heat", 3, 34), _place("referral", 3, 34)]]),
            Column(3, [_place("gate", 3, 46), _place("ledger", 3, 19), _place("alert", 3, 32)]),
        ],
    ]


def document() -> dict[str, Any]:
    """Superset's import document of the dashboard; `theme_uuid` is linked by provision, not by the importer."""
    return {
        "dashboard_title": TITLE,
        "description": "城市医疗集团当日运营、慢病管理与数据质控一屏总览",
        "css": CSS.read_text("utf-8"),
        "slug": SLUG,
        "published": True,
        "uuid": identity("dashboard", SLUG),
        "position": position(TITLE, rows()),
        "metadata": {
            "timed_refresh_immune_slices": [],
            "expanded_slices": {},
            "refresh_frequency": REFRESH_SECONDS,
            "stagger_refresh": False,
            "default_filters": "{}",
            "color_scheme": "ledNeon",
            "label_colors": {},
            "shared_label_colors": [],
            "cross_filters_enabled": False,
            "native_filter_configuration": [],
            "chart_configuration": {},
            "global_chart_configuration": {
                "scope": {"rootPath": ["ROOT_ID"], "excluded": []},
                "chartsInScope": [],
            },
            "show_chart_timestamps": False,
        },
        "theme_uuid": identity("theme", "wall"),
        "version": VERSION,
    }


def theme_document() -> dict[str, Any]:
    return {
        "theme_name": "医湖大屏深蓝",
        "uuid": identity("theme", "wall"),
        "version": VERSION,
        "json_data": {
            "algorithm": "dark",
            "token": {
                "colorPrimary": "#19d3ff",
                "colorBgBase": "#030a1c",
                "colorTextBase": "#e6f7ff",
                "colorBgContainer": "#071a38",
                "colorBgLayout": "#030a1c",
                "colorBorderSecondary": "#0e3a66",
                "fontFamily": "'Noto Sans CJK SC','Noto Sans SC','Microsoft YaHei','PingFang SC',sans-serif",
                "fontSize": 15,
            },
        },
    }
