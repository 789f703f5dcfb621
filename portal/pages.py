"""Renders the portal's pages: templates, number formats, and the designed error pages."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from lake.local_time import SHANGHAI
from portal import access, csrf, glass
from portal.accounts import Person
from portal.fhir import outcome

_HERE = Path(__file__).parent
STATIC_DIR = _HERE / "static"

#: Status -> (title, what happened, what to do).
_PROBLEMS: dict[int, tuple[str, str, str]] = {
    401: (
        "请先登录",
        "医湖门户只对已登录的人员开放。",
        "打开登录页 /login，输入账号与口令（演示口令在启动时的终端显示，medlake status 可再次查看）。",
    ),
    403: ("无权查看", "您的角色没有查看此页的权限。", "如工作需要，请联系数据管理部开通。"),
    413: ("内容过大", "提交的内容超过了上限。", "拆分文件，或请系统管理员调整上限后再提交。"),
    415: ("不支持的类型", "门户不接受这种类型的内容。", "请用本门户的表单提交，工作簿须为 .xlsx 或 .csv。"),
    419: (
        "表单已失效",
        "表单已过期，或不是从本门户提交的，没有做任何更改。",
        "返回上一页并刷新，再提交一次。",
    ),
    429: ("请求过于频繁", "短时间内的请求过多，已暂停处理。", "请稍等片刻再试。"),
    404: ("没有这个页面", "地址可能有误，或内容尚未生成。", "从首页重新进入。"),
    503: (
        "数据尚未发布",
        "服务库里还没有可以查看的数据。",
        "运行 make demo，或等待当日流程发布完成后刷新本页。",
    ),
    500: (
        "页面出错了",
        "门户没能完成这次请求，错误已记入日志。",
        "请稍后再试；若仍出错，请把时间告诉平台工程师。",
    ),
}


#: Below these, programs ask: what goes wrong is told as JSON.
_PROGRAMS = ("/api/", "/ingest/", "/quality/check", "/quality/rules")


def number(value: int | float | None) -> str:
    """12345 -> 12,345; nothing -> a dash."""
    if value is None:
        return "—"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def instant(value: datetime | str | None) -> str:
    """An instant as Shanghai wall-clock time, to the minute."""
    if value is None:
        return "—"
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")


def size(value: int | None) -> str:
    """Bytes as a person reads them."""
    if value is None:
        return "—"
    amount = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"


def day(value: date | None) -> str:
    return value.isoformat() if value else "—"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_ENVIRONMENT.filters |= {"number": number, "instant": instant, "size": size, "day": day}


def _glass(person: Person | None) -> list[tuple[str, datetime]]:
    """Open break-glass accesses, for the banner; a page that tells of a fault must not fail of it."""
    try:
        return glass.open_now(person) if person else []
    except SQLAlchemyError:
        return []


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page in the common frame. Templates see ``person``, ``rooms`` (those of the role), ``navigation``
    (rooms by group) and ``here`` (room code)."""
    person = getattr(request.state, "person", None)
    room = access.room_of(request.url.path)
    html = _ENVIRONMENT.get_template(template).render(
        person=person,
        rooms=access.rooms_for(person.role) if person else [],
        navigation=access.navigation(person.role) if person else [],
        here=room.code if room else "",
        open_glass=_glass(person),
        csrf_input=csrf.hidden_input(request),
        csrf_token=csrf.token(request),
        **values,
    )
    return HTMLResponse(html, status_code=status)


def problem(request: Request, status: int) -> Response:
    """The error page of a status, its JSON twin where programs ask, an OperationOutcome below ``/fhir``."""
    if request.url.path.startswith("/fhir/"):
        return outcome.problem(status)
    title, what, remedy = _PROBLEMS.get(status, _PROBLEMS[500])
    if request.url.path.startswith(_PROGRAMS):
        return JSONResponse({"status": status, "title": title, "detail": what, "remedy": remedy}, status)
    return page(request, "problem.html", status=status, code=status, title=title, what=what, remedy=remedy)
