"""An explained pair on a terminal: tables in Chinese, the waterfall as text bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medlake import show

if TYPE_CHECKING:
    from empi.review.explain import Explanation


def bar(weight: float, width: int = 24) -> str:
    """A weight as a text bar, one block a bit: ``███`` speaks for one person, ``░░░`` against."""
    blocks = min(round(abs(weight)), width)
    return ("█" if weight >= 0 else "░") * blocks + ("…" if abs(weight) > width + 0.5 else "")


def print_explanation(found: Explanation) -> None:
    """The whole explanation as tables for a terminal."""
    from empi.review.explain import texts

    same = {True: "=", False: "≠", None: ""}
    heads = [
        f"{side} {key.source_system} {key.org_code} · {empi_id or '未归并'} · {day or '—'}"
        for side, key, empi_id, day in zip(
            ("左", "右"), found.records, found.empi_ids, found.updated_on, strict=True
        )
    ]
    show.rows(
        [
            {"字段": f.label_zh, heads[0]: f.given_l, " ": same[f.agrees], heads[1]: f.given_r}
            | {"标准化 左": f.standard_l, "标准化 右": f.standard_r}
            for f in found.fields
        ],
        title="两条登记 side by side",
        as_json=False,
    )
    show.rows(
        [
            {"比较": b.label_zh, "达到的级别": b.level_zh or "—", "分值": f"{b.weight:+.2f}"}
            | {"": bar(b.weight), "累计": f"{b.total:+.2f}"}
            for b in found.bars
        ],
        title=f"分数 weight {found.weight:+.2f} = 同一人的可能 {found.probability:.1%}",
        as_json=False,
    )
    show.line(f"[bold]{found.guard_zh}[/]\n{found.guard_en}")
    if found.look_zh:
        show.line(f"[green]→ {found.look_zh}\n→ {found.look_en}[/]")
    _print_evidence(found, texts())


def _print_evidence(found: Explanation, words: dict[str, Any]) -> None:
    told = found.evidence
    side = {"l": "左", "r": "右"}
    whose = {"phone": "本人电话", "contact": "联系人电话"}
    if told.phones is None:
        show.line("[dim]电话、住户的共用情况暂不可查（尚无运行留存，或正在归并）[/]")
    for p in told.phones or []:
        show.line(
            f"  {side[p['side']]}·{whose[p['whose']]}：全市 {p['records']} 条登记、{p['persons']} 人、{p['homes']} 户使用"
        )
    for h in told.homes or []:
        show.line(f"  {side[h['side']]}·同一门牌：{h['records']} 条登记、{h['persons']} 人")
    for name in told.contacts:
        show.line(f"  {words['contacts'][name]}")
    if told.same_days:
        show.line(f"  [yellow]有 {told.same_days} 天双方在不同机构各有服务[/]")
    if told.archives:
        show.rows(
            [
                {"": side[a["side"]], "机构": a["org_code"], "在用": a["is_active"], "状态": a["status_code"]}
                | {"建档": a["created_on"], "责任医生": a["doctor_id"], "更新": a["updated_on"]}
                for a in told.archives
            ],
            title="健康档案 archives",
            as_json=False,
        )
    seen = [*told.visits, *told.services]
    if seen:
        show.rows(
            [
                {"": side[v["side"]], "机构": v["org_code"], "服务": words["kinds"].get(v["kind"], v["kind"])}
                | {"次数": v["times"], "最早": v["first_on"], "最近": v["last_on"]}
                for v in seen
            ],
            title="就诊与服务 visits and services",
            as_json=False,
        )
