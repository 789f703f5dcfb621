"""``medlake quality rules``: look at rules, change them with a dry run, publish by a second person, see who did what."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Json, listed, measured

group = typer.Typer(help="质控规则 / quality rules", no_args_is_help=False, invoke_without_command=True)

RuleId = Annotated[str, typer.Argument(help="规则编号 / rule, such as HTN-019")]
RuleFile = Annotated[Path, typer.Argument(help="规则 YAML（一条）/ YAML with one rule")]
ProposalId = Annotated[str, typer.Argument(help="修改单编号 / number of the proposal")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="如 severity=warn、params.max_daily=50@2027-01-01、org.C201.max_daily=60 / key=value, repeatable",
    ),
]
File = Annotated[Path | None, typer.Option("--file", help="改后的规则全文 / the rule as it shall be")]
By = Annotated[str, typer.Option("--by", help="操作人 / who", envvar="MEDLAKE_ACTOR")]
Note = Annotated[str, typer.Option(help="说明 / why")]
Samples = Annotated[int, typer.Option(min=0, max=1000, help="样例条数 / sample records")]
On = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], help="生效日期，默认今天 / from which day; today if absent"),
]
Retire = Annotated[bool, typer.Option("--retire", help="停用 / as if it were retired")]


def register(app: typer.Typer) -> None:
    """Put the group into ``medlake quality``; without a command it lists the rules, as it always did."""
    app.registered_commands[:] = [
        c for c in app.registered_commands if str(c.name or getattr(c.callback, "__name__", "")) != "rules"
    ]
    app.add_typer(group, name="rules")


def _day(on: datetime | None) -> Any:
    from lake.local_time import local_today

    return on.date() if on else local_today()


def _list(domain: str | None, table: str | None, as_json: bool) -> None:
    def work() -> list[dict[str, Any]]:
        import quality

        return [
            {
                "rule_id": r.id,
                "version": r.version,
                "severity": r.severity,
                "table": r.table,
                "title_zh": r.title_zh,
            }
            for r in quality.rules()
            if domain in (None, r.domain) and (table is None or table in {t.table for t in r.targets})
        ]

    listed(work, as_json, "规则 rules")


@group.callback()
def rules(context: typer.Context, json: Json = False) -> None:
    """列出、查看、修改、试运行、发布、停用规则 / list, show, change, dry-run, publish, retire rules."""
    if context.invoked_subcommand is None:
        _list(None, None, json)


@group.command("list")
def list_(
    domain: Annotated[str | None, typer.Option(help="领域，如 HTN / domain")] = None,
    table: Annotated[str | None, typer.Option(help="表 / table")] = None,
    json: Json = False,
) -> None:
    """列出规则 / list the rules."""
    _list(domain, table, json)


@group.command("show")
def show_rule(rule_id: RuleId, json: Json = False) -> None:
    """一条规则：条件、阈值及其历史、各机构阈值、变更记录 / a rule with its thresholds and its changes."""
    from lake.errors import MedlakeError

    try:
        import quality
        from quality import authoring

        found = [r for r in quality.rules() if r.id == rule_id]
        if not found:
            raise MedlakeError("E449", what=rule_id)
        rule, log = found[0], authoring.log(rule_id)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    target = rule.targets[0]
    told = {
        "rule_id": rule.id, "version": rule.version, "title_zh": rule.title_zh, "severity": rule.severity,
        "category": rule.category, "kind": rule.kind, "tables": ", ".join(t.table for t in rule.targets),
        "eligibility": target.eligibility, "condition": target.condition, "fields": ", ".join(target.fields),
        "message_zh": target.message_zh, "remedy_zh": rule.remedy_zh, "source_standard": rule.source_standard,
        "introduced_on": rule.introduced_on.isoformat(), "owner": rule.owner,
    }  # fmt: skip
    steps = [
        {"参数 parameter": p.name, "机构 institution": org, "起 from": since.isoformat(), "值 value": value}
        for p in rule.params.values()
        for org, history in (("—", p.steps), *p.by_org)
        for since, value in history
    ]
    if json:
        show.emit_json(told | {"params": steps, "log": log})
        return
    show.result(
        told,
        title=f"规则 {rule_id}",
        as_json=False,
        following=f"medlake quality rules dry-run {rule_id} --set …",
    )
    if steps:
        show.rows(steps, title="参数 parameters", as_json=False)
    if log:
        show.rows([_line(entry) for entry in log], title="变更 log", as_json=False)


def _read(path: Path) -> Any:
    from lake.errors import MedlakeError
    from quality.authoring.overlay import read_yaml

    try:
        return read_yaml(path.read_text("utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise MedlakeError("E447", place=str(path), detail=type(error).__name__) from error


def _propose(
    action: str,
    rule_id: str,
    file: Path | None,
    settings: list[str] | None,
    by: str,
    note: str,
    samples: int,
    as_json: bool,
) -> None:
    def work() -> dict[str, Any]:
        from quality import authoring

        node = _read(file) if file else None
        made = authoring.draft(
            action,
            rule_id,
            on=_day(None),
            file=node,
            settings=settings or (),
            place=file.name if file else rule_id,
        )
        kept = authoring.propose(made, by=by, note=note, samples=samples)
        return {"proposal_id": kept.proposal_id, "state": kept.state} | _told(kept.dry_run, as_json)

    measured(
        work,
        as_json,
        "提出修改 proposal",
        "medlake quality rules publish <proposal_id> --by <第二人 another person>",
    )


def _told(result: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """A dry run's counts; institutions and samples as tables of their own."""
    if as_json:
        return result
    if result["by_org"]:
        show.rows(result["by_org"], title="按机构 by institution", as_json=False)
    samples = [{"变化": k, **s} for k, rows in result["samples"].items() for s in rows]
    if samples:
        show.rows(samples, title="样例 samples", as_json=False)
    return {k: v for k, v in result.items() if k not in ("by_org", "samples", "seconds")}


@group.command()
def new(file: RuleFile, by: By, note: Note = "", samples: Samples = 10, json: Json = False) -> None:
    """提出一条新规则（不立即生效）/ propose a new rule; it does not hold yet."""
    _propose("new", "", file, None, by, note, samples, json)


@group.command()
def change(
    rule_id: RuleId,
    by: By,
    settings: Set = None,
    file: File = None,
    note: Note = "",
    samples: Samples = 10,
    json: Json = False,
) -> None:
    """提出修改：阈值、某机构阈值、级别、文字，或规则全文 / propose a change."""
    _propose("change", rule_id, file, settings, by, note, samples, json)


@group.command()
def retire(rule_id: RuleId, by: By, note: Note = "", samples: Samples = 10, json: Json = False) -> None:
    """提出停用 / propose to retire a rule."""
    _propose("retire", rule_id, None, None, by, note, samples, json)


@group.command("dry-run")
def dry_run(
    rule_id: Annotated[str, typer.Argument(help="规则编号；新规则写 new / rule, or new")],
    settings: Set = None,
    file: File = None,
    retired: Retire = False,
    samples: Samples = 10,
    json: Json = False,
) -> None:
    """试运行：在最近一次质控的数据上会多出、减少哪些问题；不写任何内容 / what would newly fail, what no longer; no write."""

    def work() -> dict[str, Any]:
        from quality import authoring

        action = "new" if rule_id == "new" else "retire" if retired else "change"
        node = _read(file) if file else None
        made = authoring.draft(
            action,
            rule_id,
            on=_day(None),
            file=node,
            settings=settings or (),
            place=file.name if file else rule_id,
        )
        return _told(authoring.dry_run(made, samples=samples), json)

    measured(work, json, "试运行 dry run", "medlake quality rules change … --by …")


@group.command()
def publish(proposal_id: ProposalId, by: By, on: On = None, note: Note = "", json: Json = False) -> None:
    """发布（须非提出人）：版本加一，观察30天 / publish: not by who proposed it; version + 1, observes 30 days."""

    def work() -> dict[str, Any]:
        from quality import authoring

        return authoring.publish(proposal_id, by=by, on=_day(on), note=note)

    measured(work, json, "发布 publish", "python -m quality.docs && medlake quality rules log")


@group.command()
def reject(proposal_id: ProposalId, by: By, note: Note, json: Json = False) -> None:
    """不予发布，或提出人撤回 / close a proposal."""

    def work() -> dict[str, Any]:
        from quality import authoring

        return authoring.reject(proposal_id, by=by, note=note)

    measured(work, json, "不予发布 reject")


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    tried = entry["dry_run"] or {}
    return {
        "序号": entry["seq"],
        "时间": entry["at"][:16],
        "步骤 step": entry["step"],
        "规则": entry["rule_id"],
        "版本": entry["version"] or "—",
        "操作人 who": entry["actor"],
        "修改单": entry["proposal_id"],
        "新增/消失": f"{tried.get('newly_failing', '—')}/{tried.get('no_longer_failing', '—')}",
        "说明": entry["note"] or "—",
    }


@group.command()
def log(
    rule_id: Annotated[str | None, typer.Argument(help="规则 / rule")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    json: Json = False,
) -> None:
    """变更记录（审计链，只增不改）与待发布的修改单 / the changelog, and what waits for a second person."""

    def work() -> list[dict[str, Any]]:
        from quality import authoring

        found = authoring.log(rule_id, limit)
        return found if json else [_line(e) for e in found]

    listed(work, json, "规则变更 log")
