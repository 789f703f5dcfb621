"""What changed between two versions of a contract, and whether those who deliver or read can tell.

Breaking is what makes a delivery that was accepted be refused, what makes a stored value mean something else, or what
shows more than before. Everything else only adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lake.contracts import FeedContract, Field, TableContract

#: Types that hold every value of the other: (old, new).
_WIDER = {
    ("integer", "number"),
    ("integer", "string"),
    ("number", "string"),
    ("boolean", "string"),
    ("date", "string"),
    ("timestamp", "string"),
}


@dataclass(frozen=True)
class Change:
    """One change. ``place`` is feed, feed.table or feed.table.field."""

    kind: str
    breaking: bool
    place: str
    zh: str
    en: str


def _attribute(
    kind: str, zh: str, en: str, breaking: Callable[[Field, Field], bool], name: str
) -> Callable[[str, Field, Field], Iterator[Change]]:
    """A comparison of one attribute of a field."""

    def compare(place: str, old: Field, new: Field) -> Iterator[Change]:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            told = f"{before or '—'} → {after or '—'}"
            yield Change(kind, breaking(old, new), place, f"{zh}：{told}", f"{en}: {told}")

    return compare


def _always(_old: Field, _new: Field) -> bool:
    return True


def _never(_old: Field, _new: Field) -> bool:
    return False


_FIELD = (
    _attribute("type_changed", "类型", "type", _always, "type"),
    _attribute("unit_changed", "单位", "unit", lambda o, n: bool(o.unit), "unit"),
    _attribute("code_system_changed", "值域", "code system", lambda o, n: bool(o.code_system), "code_system"),
    _attribute("level_lowered", "敏感级别", "level", lambda o, n: n.level < o.level, "level"),
    _attribute("grade_changed", "国家分级", "national grade", _never, "national_grade"),
    _attribute("source_name_changed", "源字段名", "source name", _always, "physical_name"),
    _attribute("label_changed", "中文名称", "label", _never, "label_zh"),
    _attribute("described", "说明", "description", _never, "description"),
    _attribute("fhir_path_changed", "FHIR路径", "FHIR path", _never, "fhir_path"),
    _attribute("data_element_changed", "数据元", "data element", _never, "data_element"),
    _attribute("standard_changed", "来源标准", "source standard", _never, "source_standard"),
)


def _required(place: str, old: Field, new: Field) -> Iterator[Change]:
    if new.required and not old.required:
        yield Change("required_added", True, place, "由选填改为必填", "now required")
    if old.required and not new.required:
        yield Change("required_dropped", False, place, "由必填改为选填", "no longer required")


def _field(place: str, old: Field, new: Field) -> Iterator[Change]:
    for compare in _FIELD:
        for change in compare(place, old, new):
            yield _named(change, old, new)
    yield from _required(place, old, new)


def _named(change: Change, old: Field, new: Field) -> Change:
    """Types that only become wider, levels that rise: the same comparison under its own name."""
    if change.kind == "type_changed":
        wider = (old.type, new.type) in _WIDER
        # a column of the lake keeps its type, so a wider one needs a migration too
        return Change("type_widened" if wider else "type_narrowed", True, change.place, change.zh, change.en)
    if change.kind == "level_lowered" and not change.breaking:
        return Change("level_raised", False, change.place, change.zh, change.en)
    return change


def _renamed(gone: list[Field], come: list[Field]) -> dict[str, Field]:
    """Old name -> new field, where the source's name and the type are the same: one field under another name."""
    found = {}
    for old in gone:
        twins = [n for n in come if n.physical_name == old.physical_name and n.type == old.type]
        if len(twins) == 1:
            found[old.name] = twins[0]
    return found


def _table(place: str, old: TableContract, new: TableContract) -> Iterator[Change]:
    before, after = {f.name: f for f in old.fields}, {f.name: f for f in new.fields}
    gone = [f for n, f in before.items() if n not in after]
    come = [f for n, f in after.items() if n not in before]
    renamed = _renamed(gone, come)
    for f in gone:
        if f.name in renamed:
            told = f"{f.name} → {renamed[f.name].name}"
            yield Change("field_renamed", True, f"{place}.{f.name}", f"改名：{told}", f"renamed: {told}")
        else:
            yield Change("field_removed", True, f"{place}.{f.name}", "字段被删除", "field removed")
    for f in come:
        if f in renamed.values():
            continue
        kind = "required_field_added" if f.required else "field_added"
        zh, en = (
            ("新增必填字段", "new required field") if f.required else ("新增选填字段", "new optional field")
        )
        yield Change(kind, f.required, f"{place}.{f.name}", zh, en)
    if old.key != new.key:
        told = f"{'+'.join(old.key)} → {'+'.join(new.key)}"
        yield Change("key_changed", True, place, f"主键：{told}", f"key: {told}")
    kept = [f.name for f in new.fields if f.name in before]
    if kept != [f.name for f in old.fields if f.name in after]:
        yield Change(
            "order_changed",
            True,
            place,
            "原有字段的次序变了，原文指纹随之改变",
            "old fields in another order",
        )
    elif kept and come and [f.name for f in new.fields][: len(kept)] != kept:
        yield Change(
            "order_changed", True, place, "新字段须排在原有字段之后，否则原文指纹改变", "new fields go last"
        )
    for name in kept:
        o, n = before[name], after[name]
        if (o.national_grade, n.national_grade) == (old.national_grade, new.national_grade):
            n = replace(n, national_grade=o.national_grade)  # the table's, told once
        yield from _field(f"{place}.{name}", o, n)
    if new.level < old.level:
        told = f"{old.level} → {new.level}"
        yield Change("level_lowered", True, place, f"敏感级别：{told}", f"level: {told}")
    for kind, zh, en, attribute in (
        ("label_changed", "中文名称", "label", "label_zh"),
        ("described", "说明", "description", "description"),
        ("grain_changed", "粒度", "grain", "grain_zh"),
        ("grade_changed", "国家分级", "national grade", "national_grade"),
    ):
        if getattr(old, attribute) != getattr(new, attribute):
            told = f"{getattr(old, attribute)} → {getattr(new, attribute)}"
            yield Change(kind, False, place, f"{zh}：{told}", f"{en}: {told}")


def between(old: FeedContract | None, new: FeedContract | None) -> list[Change]:
    """All changes from one version of a feed's contract to another."""
    if old is None and new is None:
        return []
    if old is None:
        assert new is not None
        return [Change("feed_added", False, new.feed, "新增数据源", "new feed")]
    if new is None:
        return [Change("feed_removed", True, old.feed, "数据源被删除", "feed removed")]
    found: list[Change] = []
    for name, table in old.tables.items():
        place = f"{new.feed}.{name}"
        if name not in new.tables:
            found.append(Change("table_removed", True, place, "表被删除", "table removed"))
        else:
            found += _table(place, table, new.tables[name])
    for name in new.tables:
        if name not in old.tables:
            found.append(Change("table_added", False, f"{new.feed}.{name}", "新增表", "new table"))
    if old.grace_hours != new.grace_hours:
        told = f"{old.grace_hours} → {new.grace_hours}"
        found.append(
            Change("grace_changed", False, new.feed, f"迟交宽限小时：{told}", f"grace hours: {told}")
        )
    return found
