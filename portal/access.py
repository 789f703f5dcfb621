"""Who may see what. A path that no line here names is refused: deny by default."""

from __future__ import annotations

from dataclasses import dataclass

#: Every role that works with data; the three administrators do not.
_ALL = frozenset(
    {"steward", "executive", "officer", "doctor", "pharmacist", "laboratory", "researcher", "asset_manager"}
)
_ADMINS = frozenset({"system_admin", "security_admin", "audit_admin"})
_EVERYBODY = _ALL | _ADMINS

#: The role of programs: they carry a token of their institution instead of a person's login.
CLIENT = "client"


@dataclass(frozen=True)
class Room:
    """A part of the portal. ``prefixes`` are its pages and their JSON twins; ``group``: where the navigation has it,
    one of ``GROUPS``, or "" for a link of its own."""

    code: str
    label_zh: str
    prefixes: tuple[str, ...]
    roles: frozenset[str]
    group: str = ""


#: The navigation's groups, from left to right.
GROUPS = ("我的", "质量", "身份", "数据", "输出", "管理")


#: Deny by default: a role sees what its work needs. The quality page holds aggregates of every institution, no resident.
ROOMS: tuple[Room, ...] = (
    Room("home", "首页", ("/", "/api/publication"), _EVERYBODY),
    Room("work", "我的工作", ("/work", "/api/portal/work"), _ALL, "我的"),
    Room(
        "glass", "紧急调阅", ("/glass", "/api/portal/glass"), frozenset({"doctor", "security_admin"}), "我的"
    ),
    Room("due", "到期", ("/due",), frozenset({"steward", "officer", "doctor"}), "我的"),
    Room("entry", "录入质控接口", ("/quality/check", "/quality/rules"), frozenset({CLIENT})),
    Room("quality", "质控", ("/quality",), frozenset({"steward", "officer"}), "质量"),
    Room("tickets", "工单", ("/tickets",), frozenset({"steward", "officer", "doctor"}), "质量"),
    Room(
        "scores",
        "评分",
        ("/scores", "/gates"),
        frozenset({"steward", "officer", "executive", "doctor"}),
        "质量",
    ),
    Room("rules", "规则", ("/rules",), frozenset({"steward", "officer", "doctor"}), "质量"),
    Room(
        "findings",
        "问题明细",
        ("/findings",),
        frozenset({"steward", "officer", "doctor", "laboratory", "pharmacist"}),
        "质量",
    ),
    Room("identity", "主索引", ("/identity",), frozenset({"steward"}), "身份"),
    Room("archives", "档案归属", ("/archives",), frozenset({"steward", "officer"}), "身份"),
    Room("corrections", "数据更正", ("/corrections",), frozenset({"steward", "doctor"}), "质量"),
    Room("quarantine", "隔离区", ("/quarantine",), frozenset({"steward"}), "数据"),
    Room("codes", "编码", ("/codes",), frozenset({"steward"}), "数据"),
    Room(
        "ledger", "账目", ("/ledger", "/api/ledger"), frozenset({"steward", "executive", "officer"}), "数据"
    ),
    Room("catalogue", "目录", ("/catalogue", "/api/catalogue"), _ALL, "数据"),
    Room("exports", "导出", ("/exports",), frozenset({"officer", "doctor", "steward"}), "输出"),
    Room("reports", "月报", ("/reports",), frozenset({"officer"}), "输出"),
    Room("research", "科研", ("/research",), frozenset({"researcher"}), "输出"),
    Room("account", "我的账号", ("/account",), _EVERYBODY),
    Room("logout", "退出", ("/logout",), _EVERYBODY),
    Room("accounts", "账号管理", ("/accounts",), frozenset({"system_admin", "security_admin"}), "管理"),
    Room("audit", "审计", ("/audit", "/api/portal/audit"), frozenset({"audit_admin"}), "管理"),
    Room("description", "接口", ("/api/openapi.json",), _ALL),
    Room("ingest", "上传", ("/ingest",), frozenset({CLIENT})),
    Room("quality_api", "质控接口", ("/api/quality",), frozenset({CLIENT})),
    Room("fhir", "主索引接口", ("/fhir",), frozenset({CLIENT})),
)

#: Rooms that the navigation does not show: they are reached from elsewhere.
_HIDDEN = frozenset({"description", "account", "logout"})

#: Open to everybody: whether the portal lives, the login page and its stylesheet, what the FHIR service can do.
#: No data.
PUBLIC = ("/healthz", "/static", "/login", "/fhir/metadata")


def _below(path: str, prefix: str) -> bool:
    return path == prefix if prefix == "/" else path == prefix or path.startswith(prefix + "/")


def is_public(path: str) -> bool:
    return any(_below(path, prefix) for prefix in PUBLIC)


def room_of(path: str) -> Room | None:
    """The room a path belongs to, or None: then nobody gets in."""
    return next((room for room in ROOMS if any(_below(path, p) for p in room.prefixes)), None)


def is_for_clients(path: str) -> bool:
    """Whether programs are asked for a token here, and persons have no business."""
    room = room_of(path)
    return room is not None and CLIENT in room.roles and not is_public(path)


def rooms_for(role: str) -> list[Room]:
    """Rooms that a role may enter, in the order of the navigation."""
    return [room for room in ROOMS if role in room.roles and room.code not in _HIDDEN]


def navigation(role: str) -> list[tuple[str, list[Room]]]:
    """What the navigation shows a role: (group, its rooms), in the order of ``GROUPS``. A room without a group comes
    first, as a group of its own without a name."""
    rooms = rooms_for(role)
    alone: list[tuple[str, list[Room]]] = [("", [room]) for room in rooms if not room.group]
    grouped = [(group, [room for room in rooms if room.group == group]) for group in GROUPS]
    return alone + [(group, found) for group, found in grouped if found]
