"""A cohort's definition read back in plain Chinese: what the researcher confirms is what is counted."""

from __future__ import annotations

from products.cohort_definition import (
    Combined,
    Criterion,
    Definition,
    Drug,
    Encounter,
    Lab,
    Managed,
    Period,
)

_SIGNS = {"<": "低于", "<=": "不高于", ">": "高于", ">=": "不低于"}
_CLASSES = {"AMB": "门诊", "EMER": "急诊", "IMP": "住院"}
_DISEASES = {"htn": "高血压", "dm": "糖尿病"}
_SEX = {"1": "男性", "2": "女性"}
_GROUPS = {"age_band": "年龄段", "sex": "性别", "county": "居住区县", "centre": "管理中心", "diabetes": "糖尿病在管",
           "hypertension": "高血压在管"}  # fmt: skip


def _number(value: float | None) -> str:
    return f"{value:g}" if value is not None else "—"


def _period(period: Period) -> str:
    if period.within_days is not None:
        return f"数据日期前 {period.within_days} 天内"
    if period.start and period.end:
        return f"{period.start} 至 {period.end}"
    return f"{period.start} 以来" if period.start else f"{period.end} 以前" if period.end else "有记录以来"


def criterion(part: Criterion) -> str:
    """One criterion as a clause."""
    if isinstance(part, Managed):
        control = {None: "", True: "且已控制", False: "且未控制"}[part.controlled]
        return f"{_DISEASES[part.managed]}在管{control}"
    if isinstance(part, Lab):
        test = part.lab
        if test.op == "between":
            said = f"在 {_number(test.low)} 至 {_number(test.high)} {test.unit} 之间"
        else:
            said = f"{_SIGNS[test.op]} {_number(test.value)} {test.unit}"
        return f"{_period(test.period)}至少一次检验（LOINC {'、'.join(test.loinc)}）{said}"
    if isinstance(part, Encounter):
        visit = part.encounter
        kinds = "、".join(_CLASSES[c] for c in visit.class_code) if visit.class_code else ""
        why = f"，主要诊断以 {'、'.join(visit.icd10)} 开头" if visit.icd10 else ""
        return f"{_period(visit.period)}至少 {visit.at_least} 次{kinds}就诊{why}"
    if isinstance(part, Drug):
        item = part.drug
        what = (
            f"编码以 {'、'.join(item.code)} 开头" if item.code else f"名称含“{'”或“'.join(item.name or [])}”"
        )
        return f"{_period(item.period)}至少 {item.at_least} 次开具{what}的药品"
    return _combined(part)


def _combined(part: Combined) -> str:
    if part.none is not None:
        return "没有以下任何一项：" + "；".join(criterion(c) for c in part.none)
    if part.any is not None:
        return "满足以下任一项：" + "；或".join(criterion(c) for c in part.any)
    return "同时满足：" + "；且".join(criterion(c) for c in part.all or [])


def population(definition: Definition) -> str:
    """Who is looked at, as a clause."""
    people, said = definition.population, []
    if people.age is not None:
        low, high = people.age.min, people.age.max
        said.append(
            f"{low} 至 {high} 岁"
            if None not in (low, high)
            else f"{low} 岁及以上"
            if high is None
            else f"{high} 岁及以下"
        )
    if people.sex:
        said.append("、".join(_SEX[s] for s in people.sex))
    if people.county:
        said.append(f"居住在区县 {'、'.join(people.county)}")
    if people.org:
        said.append(f"由机构 {'、'.join(people.org)} 及其下级管理")
    if people.org_level:
        said.append(f"管理机构级别为 {'、'.join(people.org_level)}")
    who = "健在居民" if people.alive else "全部居民（含已故）"
    return (f"{'，'.join(said)}的" if said else "") + who


def describe(definition: Definition) -> str:
    """The whole definition as one paragraph."""
    groups = (
        f"按{'、'.join(_GROUPS[g] for g in definition.group_by)}分组计数。" if definition.group_by else ""
    )
    return f"{definition.title_zh}：在{population(definition)}中，{_combined(definition.where)}。{groups}少于 10 人的数字不显示。"
