"""``medlake empi review``: pairs that the machine was unsure of, for two stewards to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Day, Json, listed, measured
from medlake.commands.review_tables import print_explanation

if TYPE_CHECKING:
    from worklist.store import Item

review = typer.Typer(help="审核疑似同人 / pairs to decide", no_args_is_help=True)

ItemId = Annotated[str, typer.Argument(help="审核编号（可只写开头）/ item number, its beginning is enough")]
By = Annotated[str, typer.Option("--by", help="操作人 / who", envvar="MEDLAKE_ACTOR")]
Reason = Annotated[str, typer.Option("--reason", help="理由 / reason")]
Key = Annotated[str | None, typer.Option("--key", help="命令号：同号只做一次 / command key: done once")]
ROLE = "empi_steward"

#: State -> what takes its decision back.
_UNDO = {
    "applied": "unmerge",
    "not_same": "reopen",
    "unsure": "reopen",
    "unmerged": "reopen",
    "second_review": "take_back",
}
#: Actions that decide: the decision keeps what it rests on.
_DECIDING = {"propose_merge", "apply_merge", "not_same", "unsure", "unmerge"}


def register(app: typer.Typer) -> None:
    """Put the group into ``medlake empi``."""
    app.add_typer(review, name="review")


def _find(item_id: str) -> Item:
    """The item of a review.

    Raises:
        MedlakeError: E903, there is none, or several; E352, it is of another kind.
    """
    import worklist
    from empi.review.pairs import KIND
    from lake.errors import MedlakeError

    item, _ = worklist.find(item_id)
    if item.kind != KIND:
        raise MedlakeError("E352", item_id=item.item_id, kind=item.kind)
    return item


def _row(item: Item) -> dict[str, Any]:
    from empi import model
    from empi.review.explain import guard_texts
    from worklist.machine import kind

    said = item.payload
    weight = said.get("match_weight")
    is_cut = weight is not None and float(weight) >= model.thresholds()["accept"]
    return {
        "编号 item": item.item_id[:10],
        "机构": item.org_code,
        "状态": kind(item.kind).states[item.state].zh,
        "分数 weight": "—" if weight is None else f"{float(weight):+.1f}",
        "价值 value": "—" if said.get("value") is None else f"{float(said['value']):.3f}",
        "两份在用档案": "是" if "true" in (said.get("two_active_archives"), said.get("two_archives")) else "",
        "经办": item.assignee or "—",
        "疑点 guard": said.get("reason_zh") or guard_texts(said.get("guard"), is_cut=is_cut)["zh"],
    }


def _plain(item: Item) -> dict[str, Any]:
    kept = (
        "item_id",
        "org_code",
        "state",
        "is_open",
        "priority",
        "assignee",
        "due_at",
        "version",
        "reopened",
    )
    told = (
        "match_weight",
        "guard",
        "value",
        "two_active_archives",
        "model_version",
        "empi_id_l",
        "empi_id_r",
    )
    return {n: getattr(item, n) for n in kept} | {n: item.payload.get(n) for n in told}


@review.command()
def ask(
    day: Day,
    limit: Annotated[int | None, typer.Option(min=0, help="最多新增几条 / new questions at most")] = None,
    json: Json = False,
) -> None:
    """把最值得看的疑似对送入待办（归并后自动执行）/ ask for the pairs worth most; done after each run."""

    def work() -> dict[str, Any]:
        from empi.review import ask as ask_

        return ask_(day.date(), limit)

    measured(work, json, "提请审核 ask", "medlake empi review list")


@review.command("list")
def list_items(
    org: Annotated[list[str] | None, typer.Option(help="机构，可重复 / institution, repeatable")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="只看已办结 / closed ones only")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 / how many at most")] = 50,
    json: Json = False,
) -> None:
    """待审核的登记对，最有价值的在前（不含姓名）/ pairs to decide, most valuable first; no names."""

    def work() -> list[dict[str, Any]]:
        import worklist
        from empi.review.pairs import KIND

        found = worklist.items(kind=KIND, org_codes=org or None, is_open=not closed, limit=10_000)
        found.sort(key=lambda i: (-float(i.payload.get("rank_value") or 0), i.item_id))
        return [_plain(i) if json else _row(i) for i in found[:limit]]

    listed(work, json, "主索引审核 review")


@review.command("show")
def show_item(
    item_id: ItemId,
    by: By,
    purpose: Annotated[str, typer.Option(help="用途，记入审计 / purpose, audited")] = "主索引审核",
    json: Json = False,
) -> None:
    """两条登记并列、分数分解、依据（4 级受限，查看记入审计）/ side by side; restricted, the look is audited."""
    from lake.errors import MedlakeError

    try:
        from empi.review import explain_pair, pairs

        item = _find(item_id)
        both = pairs.of_payload(item.payload)
        if both is None:
            raise MedlakeError("E353", item_id=item.item_id)
        found = explain_pair(*both, actor=by, purpose=purpose)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json(_plain(item) | {"explanation": found.as_dict()})
        return
    show.line("[bold red]受限数据（4 级）[/]：本次查看已记入审计 / level 4; this look is in the audit log")
    print_explanation(found)
    show.rows([_row(item)], title=f"审核 {item.item_id}", as_json=False)
    _print_possible(item)


def _print_possible(item: Item) -> None:
    from worklist.machine import kind

    words = {
        "assign_review": "claim",
        "propose_merge": "propose",
        "apply_merge": "same",
        "refuse_merge": "refuse",
    }
    words |= {
        "not_same": "not-same",
        "unsure": "unsure",
        "take_back": "undo",
        "unmerge": "undo",
        "reopen": "undo",
    }
    for t in kind(item.kind).actions(item.state):
        if t.action in words:
            show.line(f"  {t.zh}: medlake empi review {words[t.action]} {item.item_id[:10]} --by …")


def _step(item_id: str, action: str, by: str, reason: str, key: str | None) -> dict[str, Any]:
    """Do a step through the worklist, then let the decisions be taken up."""
    import worklist
    from empi import decisions
    from empi.review import pairs
    from empi.review.queue import evidence_of

    item = _find(item_id)
    if item.state == "candidate" and action in _DECIDING:
        item = worklist.act(item.item_id, "assign_review", actor=by, role=ROLE)
    both = pairs.of_payload(item.payload)
    data = {"evidence_sha256": evidence_of(*both)} if both and action in _DECIDING else {}
    done = worklist.act(
        item.item_id,
        action,
        actor=by,
        role=ROLE,
        reason=reason,
        command_key=key,
        data={k: v for k, v in data.items() if v},
    )
    return _plain(done) | {"decisions_taken": decisions.take_answers()}


def _do(item_id: str, action: str, by: str, reason: str, key: str | None, as_json: bool, title: str) -> None:
    measured(
        lambda: _step(item_id, action, by, reason, key),
        as_json,
        title,
        f"medlake empi review show {item_id} --by …",
    )


@review.command()
def claim(item_id: ItemId, by: By, json: Json = False) -> None:
    """领取 / take a pair oneself."""

    def work() -> dict[str, Any]:
        import worklist

        item = _find(item_id)
        if item.state == "candidate":
            item = worklist.act(item.item_id, "assign_review", actor=by, role=ROLE)
        return _plain(worklist.assign(item.item_id, by, actor=by, role=ROLE))

    measured(work, json, "领取 claim", f"medlake empi review show {item_id} --by {by}")


@review.command()
def propose(item_id: ItemId, by: By, reason: Reason = "", key: Key = None, json: Json = False) -> None:
    """建议合并；须由另一人复核 / propose to merge; another person must agree."""
    _do(item_id, "propose_merge", by, reason, key, json, "建议合并 propose")


@review.command()
def same(item_id: ItemId, by: By, reason: Reason = "", key: Key = None, json: Json = False) -> None:
    """复核同意：是同一人（不能是建议人）/ agree: one person; not by who proposed it."""
    _do(item_id, "apply_merge", by, reason, key, json, "同一人 same")


@review.command()
def refuse(item_id: ItemId, by: By, reason: Reason = "", key: Key = None, json: Json = False) -> None:
    """复核不同意，退回 / disagree with a proposal."""
    _do(item_id, "refuse_merge", by, reason, key, json, "不同意 refuse")


@review.command("not-same")
def not_same(item_id: ItemId, by: By, reason: Reason = "", key: Key = None, json: Json = False) -> None:
    """不是同一人，以后不再合并 / two persons, never to be merged."""
    _do(item_id, "not_same", by, reason, key, json, "非同人 not the same")


@review.command()
def unsure(item_id: ItemId, by: By, reason: Reason = "", key: Key = None, json: Json = False) -> None:
    """无法判定；不合并，也不再提示 / cannot be told: not merged, not asked again."""
    _do(item_id, "unsure", by, reason, key, json, "无法判定 unsure")


@review.command()
def undo(item_id: ItemId, by: By, reason: Reason = "", key: Key = None, json: Json = False) -> None:
    """撤销决定或建议 / take back a decision or a proposal."""

    def work() -> dict[str, Any]:
        from lake.errors import MedlakeError
        from worklist.machine import kind

        item = _find(item_id)
        if item.state not in _UNDO:
            raise MedlakeError("E354", item_id=item.item_id, state=kind(item.kind).states[item.state].zh)
        return _step(item.item_id, _UNDO[item.state], by, reason, key)

    measured(work, json, "撤销 undo", f"medlake empi review show {item_id} --by …")


@review.command()
def learn(json: Json = False) -> None:
    """从人的决定估计各分数段、各规则的真实比例，并给出调整建议（只打印，不改模型）/ what the answers teach; prints only."""

    def work() -> dict[str, Any]:
        from empi.review import learn as learn_

        return learn_()

    measured(work, json, "审核所得 learn")


@review.command()
def drift(json: Json = False) -> None:
    """每次归并的候选对构成及其变化 / how the pairs of each run spread, and how far that moved."""

    def work() -> dict[str, Any]:
        from empi.review import drift as drift_

        return {"runs": drift_.report(), "rules": drift_.rules()}

    measured(work, json, "漂移 drift")
