"""``medlake empi`` for those who answer for the registry: decisions, merges and their undo, approvals, an id's history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from medlake.commands.base import Day, Json, listed, measured

Record = Annotated[
    str,
    typer.Argument(help="登记：系统/机构/编号，如 his/H101/000123 / registration: system/institution/number"),
]
EmpiId = Annotated[str, typer.Argument(help="主索引号 / empi_id")]
By = Annotated[str, typer.Option("--by", help="操作人 / who", envvar="MEDLAKE_ACTOR")]
Reason = Annotated[str, typer.Option("--reason", help="理由 / reason")]
Second = Annotated[
    str | None, typer.Option("--second", help="第二人（与操作人不同）/ who agrees, somebody else")
]
Approval = Annotated[str, typer.Argument(help="批准编号 / approval id")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 / how many at most")]


def _key(text: str) -> Any:
    """A registration as people write it; its number may hold slashes itself.

    Raises:
        MedlakeError: E320, a part is missing.
    """
    from empi.decisions import RecordKey
    from lake.errors import MedlakeError

    parts = text.split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise MedlakeError("E320", detail="SYSTEM/ORG/NUMBER")
    return RecordKey(*parts)


def _local(at: datetime | None) -> str | None:
    from lake.local_time import SHANGHAI

    if at is None:
        return None
    known = at if at.tzinfo else at.replace(tzinfo=UTC)  # SQLite gives UTC without saying so
    return f"{known.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"


def decide(
    left: Record,
    right: Record,
    decision: Annotated[str, typer.Argument(help="must_link | cannot_link | unsure")],
    by: By,
    reason: Reason,
    second: Second = None,
    json: Json = False,
) -> None:
    """决定两条登记是否同一人；每次归并都遵守 / decide whether two registrations are one person; every run obeys."""

    def work() -> dict[str, Any]:
        from empi import decisions

        made = decisions.decide(
            _key(left), _key(right), decision, reason=reason, actor=by, second_by=second, origin="steward"
        )
        return {"decision_id": made, "decision": decision}

    measured(work, json, "决定 decide", "medlake empi link --date …")


def decisions(
    everything: Annotated[bool, typer.Option("--all", help="含已撤销的 / withdrawn ones too")] = False,
    limit: Limit = 200,
    json: Json = False,
) -> None:
    """人的决定，最新的在前（登记编号，不含姓名）/ what people decided, newest first; no names."""

    def work() -> list[dict[str, Any]]:
        from empi import decisions as ours

        return [
            {
                "decision_id": row["decision_id"],
                "decision": row["decision"],
                "left": _record(row, "l"),
                "right": _record(row, "r"),
                "origin": row["origin"],
                "by": row["decided_by"],
                "second": row["second_by"],
                "at": _local(row["decided_at"]),
                "withdrawn": _local(row["withdrawn_at"]),
            }
            for row in reversed(ours.active(everything=everything)[-limit:])
        ]

    listed(work, json, "决定 decisions")


def _record(row: dict[str, Any], side: str) -> str:
    return "/".join(str(row[f"{c}_{side}"]) for c in ("source_system", "org_code", "identifier_value"))


def withdraw(
    decision_id: Annotated[str, typer.Argument(help="决定编号 / decision id")], by: By, json: Json = False
) -> None:
    """撤销一个决定（记录保留）/ take a decision back; it stays on record."""

    def work() -> dict[str, Any]:
        from empi import decisions

        decisions.withdraw(decision_id, actor=by)
        return {"decision_id": decision_id, "state": "withdrawn"}

    measured(work, json, "撤销决定 withdraw", "medlake empi link --date …")


def merge(
    empi_id: Annotated[str, typer.Argument(help="保留的主索引号 / the id that stays")],
    other: Annotated[str, typer.Argument(help="并入的主索引号 / the id that leads to it from now on")],
    by: By,
    reason: Reason,
    second: Second = None,
    json: Json = False,
) -> None:
    """合并两人，线上立即生效，下次归并入湖；双方都有在用档案须两人 / two persons are one; two active archives need two people."""

    def work() -> dict[str, Any]:
        from empi import changes

        return changes.merge(empi_id, other, actor=by, second_actor=second, reason=reason)

    measured(work, json, "合并 merge", "medlake empi changes")


def unmerge(
    merge_id: Annotated[str, typer.Argument(help="合并编号或事件号 / change_id or event_id of the merge")],
    by: By,
    reason: Reason,
    json: Json = False,
) -> None:
    """撤销一次合并，旧号原样恢复 / undo a merge: the retired id gets its registrations back."""

    def work() -> dict[str, Any]:
        from empi import changes

        return changes.unmerge(merge_id, actor=by, reason=reason)

    measured(work, json, "撤销合并 unmerge", "medlake empi changes")


def changes(limit: Limit = 50, json: Json = False) -> None:
    """线上合并与撤销，最新的在前；run_id 为空表示尚未入湖 / merges and undos by people, newest first."""

    def work() -> list[dict[str, Any]]:
        from empi import changes as ours

        kept = ("change_id", "kind", "empi_id", "other_empi_id", "undoes", "actor", "second_actor", "run_id")
        return [{k: row[k] for k in kept} | {"at": _local(row["changed_at"])} for row in ours.listed(limit)]

    listed(work, json, "变更 changes")


def history(empi_id: EmpiId, limit: Limit = 200, json: Json = False) -> None:
    """一个主索引号的来历与去向（不含姓名）/ what happened to an id, and where it leads; no names."""

    def work() -> dict[str, Any]:
        from empi import history as told

        return told.of(empi_id, limit)

    measured(work, json, f"来历 history {empi_id}", "medlake empi unmerge EVENT_ID --by … --reason …")


def approvals(json: Json = False) -> None:
    """超过上限而停下的归并 / runs that stopped because they would change too much."""

    def work() -> list[dict[str, Any]]:
        from empi import approval

        return [row | {c: _local(row[c]) for c in ("asked_at",)} for row in approval.listed()]

    listed(work, json, "批准 approvals")


def diff(approval_id: Approval, limit: Limit = 200, json: Json = False) -> None:
    """一次归并将合并、拆分谁（主索引号与登记数）/ whom a stopped run would merge and split: ids and counts."""

    def work() -> list[dict[str, Any]]:
        from empi import approval

        return approval.diff(approval_id, limit)

    listed(work, json, f"变更明细 diff {approval_id}")


def _answer(approval_id: str, state: str, by: str, reason: str, as_json: bool, title: str) -> None:
    def work() -> dict[str, Any]:
        from empi import approval

        return approval.answer(approval_id, state, actor=by, reason=reason)

    measured(work, as_json, title, "medlake empi link --date …")


def approve(approval_id: Approval, by: By, reason: Reason, json: Json = False) -> None:
    """批准恰好这一份变更；再运行归并即通过 / let exactly this diff through; then link again."""
    _answer(approval_id, "approved", by, reason, json, "批准 approve")


def refuse(approval_id: Approval, by: By, reason: Reason, json: Json = False) -> None:
    """拒绝这一份变更 / refuse this diff."""
    _answer(approval_id, "refused", by, reason, json, "拒绝 refuse")


def train(
    day: Day,
    sample: Annotated[int, typer.Option(min=1, help="抽样登记数 / registrations of the sample")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="随机种子 / seed")] = 1,
    json: Json = False,
) -> None:
    """用本地登记无监督训练模型 / estimate the model from a day's registrations, unsupervised."""

    def work() -> dict[str, Any]:
        import empi

        return empi.train(day.date(), sample_records=sample, seed=seed)

    measured(work, json, "训练 train", f"medlake empi link --date {day:%Y-%m-%d} --mode full")


_COMMANDS: tuple[Callable[..., None], ...] = (
    decide,
    decisions,
    withdraw,
    merge,
    unmerge,
    changes,
    history,
    approvals,
    diff,
    approve,
    refuse,
    train,
)


def register(app: typer.Typer) -> None:
    """Put the commands into ``medlake empi``."""
    for command in _COMMANDS:
        app.command()(command)
