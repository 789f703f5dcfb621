"""Home, per role and institution: which blocks a role has, each made for itself, so that one that fails breaks no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lake import registry
from lake.errors import MedlakeError
from lake.log import logger
from portal import home_blocks as make
from portal.accounts import Person

_log = logger("portal")

#: What makes a block: who looks, when -> what its template shows, or None: there is nothing yet.
Maker = Callable[[Person, datetime], dict[str, Any] | None]


@dataclass(frozen=True)
class Kind:
    """A block: its title, the room it leads to, what is said while there is nothing, and in which
    column it stands: 2 the wide one, 1 the narrow one, 3 over both."""

    code: str
    title_zh: str
    room: str
    teach_zh: str
    make: Maker
    width: int = 1


@dataclass(frozen=True)
class Block:
    """A block as it stands. ``state``: ok, empty or failed (then ``problem`` is the error's number)."""

    kind: Kind
    state: str
    data: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


_KINDS = {
    kind.code: kind
    for kind in (
        Kind("work", "我的工作", "work",
             "数据触发的事项会自动出现在这里：危急值、质控工单、传染病线索、迁档协商……最急的在最上面，紧急的会弹窗。",
             make.work, 2),
        Kind("scores", "质量得分", "scores",
             "每天质检后，这里是本机构的得分、可信区间与名次，以及三十天走势。", make.scores),
        Kind("tickets", "质控工单", "tickets",
             "一条规则在一家机构有问题，就有一张工单；数据改好后自动关闭。质检运行后工单会列在这里。", make.tickets, 2),
        Kind("due", "本周到期", "due",
             "随访、体检等应做之事，在变成质控问题之前先列在这里。质检运行后生成到期清单。", make.due, 2),
        Kind("edge", "边缘节点", "",
             "机构接入边缘节点后，这里显示最近一次联系、待传数据与故障。断网 72 小时不丢数据，恢复后自动补传。", make.edge),
        Kind("exports", "我的导出", "exports",
             "导出过的名册列在这里，可再次下载。模板批准一次，之后一键导出：计划行数等于实际行数。", make.exports),
        Kind("city", "全市数字", "", "首次发布后，这里是全市诊疗与慢病管理的关键数字，与大屏同源。", make.city, 3),
        Kind("cohorts", "我的队列", "research",
             "按条件建一个队列，得到逐步筛选的人数与中文释义，保存后可复现。小于 10 的人数不显示。", make.cohorts, 2),
        Kind("gaps", "目录待完善", "catalogue",
             "目录发布后，缺责任人、缺说明、未评分或过期的资产会列在这里。", make.gaps, 2),
        Kind("accounts", "账号", "accounts",
             "还没有本地账号。提出账号的是系统管理员，启用账号的是安全管理员：两人各做一半。", make.accounts, 2),
        Kind("glass", "紧急调阅待复核", "glass",
             "医生开启紧急调阅时立即出现在这里，并弹窗；请在三个工作日内判断是否正当。", make.glass, 2),
        Kind("alerts", "审计提醒", "audit",
             "最近 24 小时没有需要留意的访问：大量读取、夜间读取、查看本人或同事的记录都会提醒。", make.alerts, 2),
        Kind("publication", "数据产品发布", "", "当日流程发布后，这里列出每个数据产品的日期与质控门。",
             make.publication, 2),
    )
}  # fmt: skip

#: Role -> its blocks, in order. A role without a line sees what is published.
_OF = {
    "steward": ("work", "scores", "tickets", "due", "edge", "exports", "publication"),
    "officer": ("work", "scores", "due", "exports", "edge", "publication"),
    "doctor": ("work", "due", "scores", "exports"),
    "pharmacist": ("work", "scores"),
    "laboratory": ("work", "scores"),
    "executive": ("city", "work", "scores", "tickets", "edge", "publication"),
    "researcher": ("cohorts", "work", "publication"),
    "asset_manager": ("gaps", "work", "publication"),
    "system_admin": ("accounts", "publication"),
    "security_admin": ("glass", "accounts"),
    "audit_admin": ("alerts",),
}


def _block(kind: Kind, person: Person, at: datetime) -> Block:
    try:
        found = kind.make(person, at)
    except MedlakeError as error:
        if error.code in make.NOTHING_YET:
            return Block(kind, "empty")
        _log.warning("home_block_failed", code=error.code, step=kind.code)
        return Block(kind, "failed", problem=error.code)
    except Exception as error:  # one block must not take the page with it; which and why is in the log
        _log.error("home_block_failed", reason=type(error).__name__, step=kind.code)
        return Block(kind, "failed")
    return Block(kind, "empty") if found is None else Block(kind, "ok", found)


def blocks(person: Person, at: datetime | None = None) -> list[Block]:
    """The blocks of a person's home, in order."""
    now = at or datetime.now(UTC)
    return [_block(_KINDS[code], person, now) for code in _OF.get(person.role, ("publication",))]


def place(person: Person) -> str:
    """The name of the institution that a person works for; empty when the register does not know it."""
    orgs = registry.orgs()
    names = dict(zip(orgs["org_code"].to_pylist(), orgs["org_short_name"].to_pylist(), strict=True))
    return str(names.get(person.org_code, ""))
