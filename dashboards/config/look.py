"""Colours, fonts and the HTML that charts may draw."""

from typing import Any
from urllib.parse import quote

APP_NAME = "医湖 Medlake"
FONT = "'Noto Sans CJK SC','Noto Sans SC','Source Han Sans SC','Microsoft YaHei','PingFang SC',sans-serif"

# Drawn here, so that no file has to be served beside Superset's own.
_LOGO = quote(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 178 28'>"
    "<path d='M4 19q5-6 10 0t10 0v5H4z' fill='#1477e8'/><path d='M11 3h6v5h5v6h-5v4h-6v-4H6V8h5z' fill='#19d3ff'/>"
    f"<text x='34' y='21' font-size='19' font-weight='700' fill='#e6f4ff' font-family=\"{FONT}\">{APP_NAME}</text></svg>"
)
_BRAND = {
    "brandAppName": APP_NAME,
    "brandLogoUrl": f"data:image/svg+xml,{_LOGO}",
    "brandLogoHeight": "28px",
    "brandLogoMargin": "16px 0",
    "brandLogoAlt": APP_NAME,
    "brandLogoHref": "/",
    "fontFamily": FONT,
    "fontUrls": [],
}
_DARK = {
    "colorPrimary": "#19d3ff",
    "colorLink": "#19d3ff",
    "colorInfo": "#19d3ff",
    "colorSuccess": "#2fe6a6",
    "colorWarning": "#ffc53d",
    "colorError": "#ff4d6d",
    "colorBgBase": "#050b1e",
    "colorTextBase": "#e6f4ff",
}


# An Ant Design theme as plain data; Superset's own Theme class cannot be imported from a config file.
DARK_THEME: dict[str, Any] = {"token": {**_BRAND, **_DARK}, "algorithm": "dark"}

CATEGORICAL = [
    {
        "id": "ledNeon",
        "label": "大屏霓虹",
        "description": "深色背景上的高亮分类色",
        "isDefault": True,
        "colors": ["#19d3ff", "#ffb020", "#2fe6a6", "#a78bfa", "#ff6b8a", "#5b8cff", "#36cfc9", "#f7e463"],
    }
]
SEQUENTIAL = [
    {
        "id": "ledBlues",
        "label": "大屏深蓝",
        "description": "由暗到亮的蓝色渐变",
        "isDiverging": False,
        "isDefault": False,
        "colors": ["#06204a", "#07407f", "#0a6fb8", "#12a5e0", "#4fe3ff", "#d6fbff"],
    }
]

_SHAPE = ["fill", "fillOpacity", "stroke", "strokeWidth", "opacity"]
# Drawn tiles are HTML and SVG out of Handlebars templates; only administrators write templates.
ALLOWED_HTML: dict[str, Any] = {
    "attributes": {
        "*": ["style", "className", "data*"],
        "svg": ["viewBox", "width", "height", "preserveAspectRatio", "xmlns"],
        "path": ["d", *_SHAPE],
        "rect": ["x", "y", "width", "height", "rx", *_SHAPE],
        "circle": ["cx", "cy", "r", *_SHAPE],
        "line": ["x1", "y1", "x2", "y2", *_SHAPE],
        "text": ["x", "y", "dx", "dy", "fontSize", "fontWeight", "textAnchor", "dominantBaseline", *_SHAPE],
        "tspan": ["x", "dy", "fontSize", "fontWeight", *_SHAPE],
        "g": ["transform", *_SHAPE],
    },
    "tagNames": ["svg", "g", "path", "rect", "circle", "line", "text", "tspan"],
}  # fmt: skip
