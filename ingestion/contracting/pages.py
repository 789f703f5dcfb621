"""``docs/feeds``: one page a feed, written from its contract, and one of all code lists; a test keeps them in step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ingestion.contracting.value_sets import codes, has_list, value_sets
from lake.contracts import CONTRACTS_DIR, FeedContract, Field, TableContract, contracts
from lake.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "docs" / "feeds"

_WRITTEN = "<!-- Written by `medlake contracts docs` from ingestion/contracts; do not edit. -->\n"
_MARKS = {
    "V": "见于公开材料 / seen",
    "K": "领域知识，启用前核对 / to be checked",
    "V部分": "部分见于公开材料 / partly seen",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or "—"


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def _system(f: Field) -> str:
    return f"[{f.code_system}](value_sets.md#{f.code_system})" if f.code_system else ""


def _field(f: Field, table: TableContract) -> str:
    marks = "".join(("🔑" if f.is_key else "", "必填" if f.required and not f.is_key else ""))
    standard = "; ".join(t for t in (f.data_element, f.source_standard) if t)
    level = str(f.level) if f.national_grade == table.national_grade else f"{f.level} {f.national_grade}"
    return _row(
        f"`{f.name}`", f.label_zh, f.description, f"`{f.physical_name}`", f.type, marks, f.unit, _system(f), level,
        standard, f.fhir_path,
    )  # fmt: skip


def _table(t: TableContract) -> Iterator[str]:
    yield f"## {t.label_zh} `{t.name}`\n"
    yield f"{t.description}\n"
    told = [
        f"粒度 grain：{t.grain_zh}",
        f"主键 key：机构 + {'、'.join(f'`{k}`' for k in t.key)}",
        f"敏感级别 level：{t.level}",
        f"国家分级 grade：{t.national_grade}",
    ]
    yield " · ".join([*told, f"依据：{t.source_standard}"] if t.source_standard else told)
    yield ""
    yield _row(
        "字段 field", "名称", "Meaning", "源名 source", "类型 type", "键 key", "单位 unit", "值域 codes", "级别", "标准 standard",
        "FHIR",
    )  # fmt: skip
    yield _row(*["---"] * 11)
    for f in t.fields:
        yield _field(f, t)
    yield ""


def page(feed: FeedContract) -> str:
    """The page of one feed."""
    lines = [
        f"# {feed.label_zh} `{feed.feed}`\n",
        f"{feed.description}\n",
        f"版本 version {feed.version} · 领域 domain {feed.domain} · 负责人 owner {feed.owner} · "
        f"迟交宽限 grace {feed.grace_hours} h · 国家分级 grade {feed.national_grade}\n",
    ]
    for table in feed.tables.values():
        lines += _table(table)
    return _WRITTEN + "\n".join(lines)


def index(feeds: list[FeedContract]) -> str:
    """The list of all feeds, and how their contracts change."""
    lines = [
        "# 数据源 Feeds\n",
        "Every source's contract as a page. Levels are GB/T 39725-2020 (1 open to 5 minimal); grades are GB/T 43697-2024, "
        "重要数据 marked here is a candidate until the authority's list says so. Data elements are WS 363's, named only "
        "where known. A field without the mark 必填 may be empty; empty says unknown, never no.\n",
        "`medlake contracts diff` compares with the last commit and with the lake: a breaking change needs a major version "
        "and a note in `ingestion/contracts/migrations`, an additive one a minor version. `medlake contracts new` makes the "
        "draft of a new source from sample files.\n",
        "Codes belong to a form and its version: a list named `<form>_<version>__<field>` is that form's own "
        "([value_sets.md](value_sets.md)); where it says another system, `standard_code` in the list is the code there.\n",
        _row(
            "数据源 feed",
            "名称",
            "版本",
            "表 tables",
            "字段 fields",
            "级别 level",
            "国家分级 grade",
            "宽限 grace",
        ),
        _row(*["---"] * 8),
    ]
    for c in feeds:
        fields = sum(len(t.fields) for t in c.tables.values())
        level = max(t.level for t in c.tables.values())
        lines.append(
            _row(f"[{c.feed}]({c.feed}.md)", c.label_zh, c.version, str(len(c.tables)), str(fields), str(level),
                 c.national_grade, f"{c.grace_hours} h")
        )  # fmt: skip
    return _WRITTEN + "\n".join(lines) + "\n"


def _codes(system: str) -> str:
    rows = [r for r in codes(system) if r["code"]]
    told = [
        f"{r['code']} {r['name_zh']}" + (f"→{r['standard_code']}" if r.get("standard_code") else "")
        for r in rows
    ]
    return "；".join(told)


def value_set_page() -> str:
    """All code systems with their codes, the form and version they belong to, and where they come from."""
    lines = [
        "# 值域 Value sets\n",
        _row(
            "系统 system",
            "名称",
            "表单 form",
            "版本",
            "依据 standard",
            "核对 checked",
            "对应 maps to",
            "代码 codes",
            "说明 note",
        ),
        _row(*["---"] * 9),
    ]
    for name, r in value_sets().items():
        listed = _codes(name) if has_list(name) else "外部码表 external"
        lines.append(
            _row(f'<a id="{name}"></a>`{name}`', r["label_zh"], r["form"], r["version"], r["standard"],
                 _MARKS.get(r["verified"], "本平台 ours"), r["standard_system"], listed, r["note"])
        )  # fmt: skip
    return _WRITTEN + "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """File name -> text. A site's own contracts have no page here."""
    shipped = [c for c in contracts().values() if c.path.parent == CONTRACTS_DIR]
    found = {f"{c.feed}.md": page(c) for c in shipped}
    return found | {"README.md": index(shipped), "value_sets.md": value_set_page()}


def write(folder: Path | None = None) -> list[Path]:
    """Write all pages, remove those of feeds that are gone."""
    target = folder or FOLDER
    target.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for old in target.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (target / name).write_text(text, "utf-8")
    return [target / n for n in wanted]
