"""Superset in Chinese that can be trusted.

Superset 6.1 ships a Chinese catalogue of which 36 % are guesses ("Sign in" -> "不在其中") compiled in as if they
were translations. The set-up writes a pack without the guesses and with our own renderings of what people see
first (zh_fixes.yaml); the application loads that pack in memory, so no file of the installed package changes.
"""

import json
from pathlib import Path
from typing import Any

FIXES = Path(__file__).with_name("zh_fixes.yaml")
PACK = "zh.json"

LANGUAGES = {"zh": {"flag": "cn", "name": "简体中文"}, "en": {"flag": "us", "name": "English"}}
D3_FORMAT = {"decimal": ".", "thousands": ",", "grouping": [3], "currency": ["¥", ""]}
D3_TIME_FORMAT = {
    "dateTime": "%Y年%m月%d日 %H:%M:%S",
    "date": "%Y/%m/%d",
    "time": "%H:%M:%S",
    "periods": ["上午", "下午"],
    "days": ["星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"],
    "shortDays": ["周日", "周一", "周二", "周三", "周四", "周五", "周六"],
    "months": [f"{m}月" for m in "一 二 三 四 五 六 七 八 九 十 十一 十二".split()],
    "shortMonths": [f"{m}月" for m in range(1, 13)],
}


def write_pack(home: Path) -> int:
    """Write the mended pack under `home`; returns the number of messages that are translated in it."""
    import superset
    import yaml
    from babel.messages.pofile import read_po

    folder = Path(superset.__file__).parent / "translations" / "zh" / "LC_MESSAGES"
    with (folder / "messages.po").open("rb") as f:
        guesses = {_key(m.id) for m in read_po(f, locale="zh") if m.id and m.fuzzy}
    pack = json.loads((folder / "messages.json").read_text("utf-8"))
    messages = pack["locale_data"]["superset"]
    fixes: dict[str, str] = yaml.safe_load(FIXES.read_text("utf-8"))
    # An empty rendering makes Superset show the English text.
    messages.update({key: [""] for key in guesses if key in messages})
    messages.update({key: [text] for key, text in fixes.items()})
    (home / PACK).write_text(json.dumps(pack, ensure_ascii=False), "utf-8")
    return sum(1 for texts in messages.values() if isinstance(texts, list) and texts and texts[0])


def _key(message_id: Any) -> str:
    return message_id if isinstance(message_id, str) else message_id[0]


def mend(app: Any, home: Path) -> None:
    """Let pages and server messages use the pack that `write_pack` made; before the set-up there is none."""
    path = home / PACK
    if not path.exists():
        return
    pack = path.read_text("utf-8")

    # Superset's own view sends the installed file, and to nobody before the login. Texts are no secret.
    def send_pack() -> Any:
        from flask import Response, request

        if request.path == "/superset/language_pack/zh/":
            return Response(pack, mimetype="application/json", headers={"Cache-Control": "max-age=600"})
        return None

    app.before_request(send_pack)
    _mend_server_side(app, json.loads(pack)["locale_data"]["superset"])


def _mend_server_side(app: Any, messages: dict[str, Any]) -> None:
    """Error texts and old pages are rendered by Flask-Babel from its own compiled catalogue."""
    from flask_babel import get_translations

    with app.test_request_context(headers={"Accept-Language": "zh"}):
        catalogue = getattr(get_translations(), "_catalog", {})
    for key, texts in messages.items():
        if key in catalogue and isinstance(texts, list) and texts:
            catalogue[key] = texts[0] or key
