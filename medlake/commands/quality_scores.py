"""``medlake quality scores`` (and its ``explain``) and ``forensics``: ranking, one score taken apart, leads."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Json

Date = Annotated[
    datetime | None,
    typer.Option("--date", formats=["%Y-%m-%d"], help="数据日期，默认最新 / default: newest"),
]
_scores = typer.Typer(help="评分卡 / scorecards", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Put the commands into ``medlake quality``."""
    app.add_typer(_scores, name="scores")
    app.command("forensics")(forensics)


def _points(value: float | None, low: float | None = None, high: float | None = None) -> str:
    if value is None:
        return "NA"
    return f"{value:.2f}" if low is None else f"{value:.2f}（{low:.2f}–{high:.2f}）"


def _row(r: dict[str, Any], subject: dict[str, Any]) -> dict[str, Any]:
    place = "—"
    if r["rank_best"] is not None:
        same = r["rank_best"] == r["rank_worst"]
        place = f"{r['rank_best']}" if same else f"{r['rank_best']}–{r['rank_worst']}"
    return subject | {
        "名次 rank": place,
        "得分 score": _points(r["score"]),
        "收缩后（95%区间）": _points(r["shrunk_score"], r["score_low"], r["score_high"]),
        "判定": f"{r['eligible']:,}",
        "问题": f"{r['findings']:,}",
        "": "判定少 small" if r["is_small"] else "",
    }


@_scores.callback()
def scores(
    context: typer.Context,
    org: Annotated[str | None, typer.Option(help="机构编码：其各领域 / one institution's domains")] = None,
    domain: Annotated[str, typer.Option(help="领域，如 HTN / domain")] = "ALL",
    day: Date = None,
    json: Json = False,
) -> None:
    """机构排名，或一家机构的评分卡 / ranking of institutions, or one institution's card."""
    if context.invoked_subcommand is not None:
        return
    from lake.errors import MedlakeError

    try:
        from quality import scorecards

        as_of = day.date() if day else None
        if org is not None:
            card = scorecards.card(org, as_of)
            trend = scorecards.trend(org, domain, data_date=as_of)
            if json:
                show.emit_json(card | {"trend": trend})
                return
            rows = [
                _row(d, {"领域": f"{d['domain']} {d['domain_zh']}"})
                for d in card["domains"]
                if domain in ("ALL", d["domain"])
            ]
            show.rows(rows, title=f"{org} {card['org_name']} {card['data_date']}", as_json=False)
            told = " → ".join(f"{t['data_date']:%m-%d} {t['score']:.2f}" for t in trend[-7:])
            show.line(f"走势 trend {domain}: {told}")
            show.line(f"[dim]{card['formula_zh']}[/]")
            show.line(f"[dim]下一步 next:[/] medlake quality scores explain --org {org} --domain {domain}")
            return
        ranking = scorecards.ranking(domain, as_of)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json({"domain": domain, "ranking": ranking})
        return
    rows = [_row(r, {"机构": f"{r['org_code']} {r['org_name']}"}) for r in ranking]
    show.rows(rows, title=f"机构排名 ranking {domain}", as_json=False)
    show.line(
        "[dim]名次为区间时，其中各机构分不出先后 / a span of ranks: the intervals do not tell them apart[/]"
    )
    show.line("[dim]下一步 next:[/] medlake quality scores --org C201")


@_scores.command("explain")
def explain(
    org: Annotated[str, typer.Option(help="机构编码 / institution")],
    domain: Annotated[str, typer.Option(help="领域，如 HTN / domain")] = "ALL",
    day: Date = None,
    json: Json = False,
) -> None:
    """把一个得分拆成各规则的扣分，可逐项复算 / one score taken apart, rule by rule."""
    from lake.errors import MedlakeError

    try:
        from quality import scorecards

        told = scorecards.explain(org, domain, day.date() if day else None)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json(told)
        return
    costly = [p for p in told["parts"] if p["points"]]
    rows = [
        {
            "规则": p["rule_id"],
            "标题": p["title_zh"],
            "表": p["table_name"],
            "权重": f"{p['weight']:g}",
            "问题/判定": f"{p['findings']:,}/{p['evaluated']:,}",
            "违规率%": f"{p['rate_pct']:.3f}",
            "收缩后%": f"{p['shrunk_pct']:.3f}",
            "扣分": f"{p['points']:.4f}",
        }
        for p in costly
    ]
    card, clean = told["card"], len(told["parts"]) - len(costly)
    show.rows(rows, title=f"{org} {told['org_name']} {domain} {told['data_date']}", as_json=False)
    show.line(
        f"{_points(card['score'])} = 100 − {sum(p['points'] for p in costly):.4f}；"
        f"判定规则 {len(told['parts'])} 条，其中 {clean} 条无问题 / {clean} rules without a finding"
    )
    show.line(f"[dim]{told['formula_zh']}[/]")
    show.line(f"[dim]下一步 next:[/] medlake quality tickets list --org {org}")


def forensics(
    quarter: Annotated[str, typer.Option(help="季度，如 2026Q4 / quarter")],
    is_read_only: Annotated[bool, typer.Option("--show", help="只看已有线索 / do not screen again")] = False,
    json: Json = False,
) -> None:
    """季度统计筛查：只作线索，不影响评分 / statistical leads of a quarter, for people to look at."""
    from lake.errors import MedlakeError

    try:
        from quality import forensics as screening

        made = {"quarter": quarter} if is_read_only else screening.build(quarter)
        found = screening.leads(quarter)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json(made | {"found": found})
        return
    rows = [
        {
            "线索": r["test_zh"],
            "机构": r["org_code"],
            "医生": r["doctor_id"],
            "所见": r["note_zh"],
            "q": f"{r['q_value']:.2g}",
            "受检医生": r["tested"],
        }
        for r in found
    ]
    show.rows(rows, title=f"线索 leads {quarter}", as_json=False)
    show.line("线索供人工核查，不是证据，不影响评分、质控门和考核 / leads are not proof and take no points")
    show.line("[dim]下一步 next:[/] 抽查原始记录 / look at the original records")
