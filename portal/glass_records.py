"""What break-glass shows: who a number and a name are, and that resident's records of every institution.

Each query's columns and rows are the policy's (``lake.access.select_sql``): the subject's, and nobody else's. The
crosswalk says which patient ids are the subject's; where two systems of an institution give one id to two residents,
the hospital's register decides, as in gold. Instants are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb

from lake import access, contracts, duck, ledger, registry
from lake.access import Caller
from lake.errors import MedlakeError
from lake.settings import settings

#: Newest lines of a section that are shown; the rest is counted.
ROWS = 30

#: What a resident is found by: name of the number -> (label, its kind in the crosswalk, the source that gives it).
NUMBERS = {
    "id_no": ("身份证件号码", "NI", ""),
    "health_card_no": ("电子健康卡号", "HC", ""),
    "insurance_no": ("医保编号", "SN", ""),
    "archive_id": ("健康档案编号", "MR", "public_health"),
}

_PERSON = ("name", "sex_code", "birth_date", "id_no", "phone", "addr_detail", "is_deceased")
_CODES = {"sex_code": "sex"}
_ORG = "org"

#: Whose registers say whose a patient id is, the first that knows it: family -> sources.
_FAMILIES = {
    "his": ("his",),
    "lis": ("his", "lis"),
    "pacs": ("his", "pacs"),
    "public_health": ("public_health",),
}


@dataclass(frozen=True)
class Section:
    """A part of the page. ``source``: rows with their ``empi_id`` out of ``mine`` (family, org_code, local_id, empi_id)."""

    code: str
    label_zh: str
    table: str
    fields: tuple[str, ...]
    newest: str
    family: str = "his"
    key: str = "patient_local_id"
    source: str = ""
    through: str = ""

    @property
    def tables(self) -> tuple[str, ...]:
        return (self.table, self.through) if self.through else (self.table,)

    @property
    def sql(self) -> str:
        return self.source or _of_patient(self.table, self.family, self.key)


def _of_patient(table: str, family: str, key: str) -> str:
    return (
        f"SELECT s.*, m.empi_id FROM silver.{table} AS s JOIN mine AS m ON m.family = '{family}' "
        f'AND m.org_code = s.org_code AND m.local_id = s."{key}"'
    )


def _of_visit(table: str) -> str:
    """By the patient id, and where a row has none, by its visit."""
    return _of_patient(table, "his", "patient_local_id") + (
        f" UNION ALL BY NAME SELECT s.*, m.empi_id FROM silver.{table} AS s JOIN silver.encounter AS e "
        "ON e.org_code = s.org_code AND e.encounter_id = s.encounter_id JOIN mine AS m ON m.family = 'his' "
        "AND m.org_code = e.org_code AND m.local_id = e.patient_local_id WHERE s.patient_local_id IS NULL"
    )


_LAB = (
    "SELECT r.*, p.reported_at, m.empi_id FROM silver.lab_report AS p JOIN mine AS m ON m.family = 'lis' "
    "AND m.org_code = coalesce(p.requesting_org_code, p.org_code) AND m.local_id = p.patient_local_id "
    "JOIN silver.lab_result AS r ON r.org_code = p.org_code AND r.report_id = p.report_id"
)

SECTIONS = (
    Section("allergy", "过敏", "allergy", ("allergen_name", "reaction", "severity_code", "onset_on"), "onset_on"),
    Section(
        "archive", "既往与家族史", "ph_archive", ("drug_allergy", "past_disease", "family_history", "blood_abo_code"),
        "created_on", "public_health", "archive_id",
    ),
    Section("encounter", "就诊", "encounter",
            ("started_at", "class_code", "dept_code", "chief_complaint", "past_history", "allergy_text"), "started_at"),
    Section("diagnosis", "诊断", "diagnosis", ("dx_at", "dx_name", "icd10_code"), "dx_at",
            source=_of_visit("diagnosis"), through="encounter"),
    Section("drug", "用药", "prescription_item", ("rx_at", "drug_name", "dose", "dose_unit", "freq_code", "days"), "rx_at",
            source=_of_visit("prescription_item"), through="encounter"),
    Section("lab", "检验结果", "lab_result",
            ("reported_at", "item_name", "value_text", "value_num", "unit", "ref_low", "ref_high", "abnormal_flag"),
            "reported_at", "lis", source=_LAB, through="lab_report"),
    Section("imaging", "影像与检查", "imaging_report",
            ("exam_at", "exam_item_name", "body_part", "finding", "impression"), "exam_at", "pacs"),
    Section("htn", "高血压随访", "htn_visit", ("visited_on", "sbp_mmhg", "dbp_mmhg", "drugs"), "visited_on",
            "public_health", "archive_id"),
    Section("dm", "糖尿病随访", "dm_visit", ("visited_on", "fbg_mmol_l", "drugs"), "visited_on",
            "public_health", "archive_id"),
)  # fmt: skip


@dataclass(frozen=True)
class Resident:
    """Who was found. ``org_code``: the institution that keeps the health archive; empty: nobody does."""

    empi_id: str
    org_code: str


def _opened(*wanted: str) -> tuple[duckdb.DuckDBPyConnection, set[str]]:
    """A connection with views on the visible versions of some silver tables, and which of them there are."""
    seen = ledger.visible("silver/")
    versions = {f"silver/{t}": seen[f"silver/{t}"] for t in wanted if f"silver/{t}" in seen}
    connection = duck.connect()
    duck.create_views(connection, versions)
    return connection, {name.partition("/")[2] for name in versions}


def _make_mine(connection: duckdb.DuckDBPyConnection, empi_id: str) -> None:
    """Make ``mine``: the patient ids of the subject, by family of systems, the first register that knows an id deciding."""
    ranks = ", ".join(f"('{f}', '{s}', {n})" for f, found in _FAMILIES.items() for n, s in enumerate(found))
    connection.execute(
        f"""CREATE TEMP TABLE mine AS
        WITH here AS (SELECT * FROM silver.person_identifier WHERE identifier_type = 'MR' AND valid_to IS NULL),
        own AS (SELECT DISTINCT org_code, identifier_value FROM here WHERE empi_id = ?)
        SELECT r.family, h.org_code, h.identifier_value AS local_id, arg_min(h.empi_id, r.place) AS empi_id
        FROM here AS h SEMI JOIN own USING (org_code, identifier_value)
        JOIN (VALUES {ranks}) AS r(family, source_system, place) USING (source_system)
        GROUP BY ALL HAVING arg_min(h.empi_id, r.place) = ?""",
        [empi_id, empi_id],
    )


def resident(number_kind: str, value: str, name: str) -> Resident | None:
    """The one resident who has both the number and the name; None when there is none, or more than one.

    Raises:
        MedlakeError: E608, nobody was linked yet.
    """
    if number_kind not in NUMBERS:
        return None
    _, kind, source = NUMBERS[number_kind]
    connection, there = _opened("person", "person_identifier", "ph_archive")
    with connection:
        if not {"person", "person_identifier"} <= there:
            raise MedlakeError("E608", place="silver/person")
        own = "OR upper(p.id_no) = upper($1)" if number_kind == "id_no" else ""
        rows = connection.execute(
            f"""SELECT p.empi_id FROM silver.person AS p WHERE p.name = $2 AND (p.empi_id IN (
                SELECT empi_id FROM silver.person_identifier WHERE identifier_type = '{kind}' AND valid_to IS NULL
                AND upper(identifier_value) = upper($1) AND ('{source}' = '' OR source_system = '{source}')) {own})
            LIMIT 2""",
            [value, name],
        ).fetchall()
        if len(rows) != 1:
            return None
        empi_id, org = str(rows[0][0]), None
        if "ph_archive" in there:
            _make_mine(connection, empi_id)
            org = connection.execute(
                "SELECT a.org_code FROM silver.ph_archive AS a JOIN mine AS m ON m.family = 'public_health' "
                "AND m.org_code = a.org_code AND m.local_id = a.archive_id "
                "ORDER BY a.status_code = '0' DESC, a.created_on DESC NULLS LAST, a.org_code LIMIT 1"
            ).fetchone()
        return Resident(empi_id, str(org[0]) if org else "")


@lru_cache(maxsize=64)
def _names(system: str) -> dict[str, str]:
    """Code -> its Chinese name, of a code system that has a list."""
    from products.exports.query import code_sql

    if system == _ORG:
        orgs = registry.orgs()
        return dict(zip(orgs["org_code"].to_pylist(), orgs["org_short_name"].to_pylist(), strict=True))
    if not system or not (settings().seeds_dir / "codes" / f"{system}.csv").is_file():
        return {}
    con = duck.connect()
    try:
        return dict(con.execute(code_sql(system)).fetchall())
    finally:
        con.close()


def _known(table: str) -> dict[str, contracts.Field]:
    tables = (feed.tables.get(table) for feed in contracts.contracts().values())
    return next(({f.name: f for f in found.fields} for found in tables if found), {})


def _labels(table: str, fields: list[str]) -> list[str]:
    known = _known(table)
    elsewhere = {"reported_at": "报告时间", "name": "姓名", "sex_code": "性别", "birth_date": "出生日期",
                 "id_no": "证件号码", "phone": "联系电话", "addr_detail": "住址", "is_deceased": "已死亡",
                 "org_code": "机构"}  # fmt: skip
    return [known[f].label_zh if f in known else elsewhere.get(f, f) for f in fields]


def _worded(table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Codes in words. A loop over at most :data:`ROWS` lines of one resident."""
    systems = {name: f.code_system for name, f in _known(table).items()} | _CODES | {"org_code": _ORG}
    return [
        {name: _names(systems.get(name, "")).get(str(value), value) for name, value in row.items()}
        for row in rows
    ]


def _select(
    connection: duckdb.DuckDBPyConnection,
    caller: Caller,
    table: str,
    fields: tuple[str, ...],
    source: str,
    newest: str = "",
) -> tuple[list[str], list[dict[str, Any]], int]:
    """(columns shown, newest rows, how many there are) of a source under the policy."""
    columns = {row[0] for row in connection.execute(f"DESCRIBE {source}").fetchall()}
    wanted = [f for f in ("org_code", *fields) if f in columns]
    order = [newest] if newest in columns else []
    shown, where, values = access.select_sql(
        caller, f"silver/{table}", wanted, "t", sort=order, known=columns
    )
    query = f"SELECT {', '.join(shown)}, count(*) OVER () AS rows_there FROM ({source}) AS t WHERE {where}"
    query += (f' ORDER BY t."{order[0]}" DESC NULLS LAST' if order else "") + f" LIMIT {ROWS}"
    rows = connection.execute(query, values).to_arrow_table().to_pylist()
    there = int(rows[0]["rows_there"]) if rows else 0
    names = [f for f in wanted if rows and f in rows[0]]
    return names, _worded(table, [{n: row[n] for n in names} for row in rows]), there


def records(caller: Caller) -> dict[str, Any]:
    """The subject's own line and sections: ``person`` (label -> value), ``sections`` [{label_zh, labels, fields, rows,
    total}], and for the audit ``tables``, ``fields``, ``rows``.

    Raises:
        MedlakeError: E685, not under break-glass; E608, nobody was linked yet.
    """
    wanted = {t for s in SECTIONS for t in s.tables}
    connection, there = _opened("person", "person_identifier", *sorted(wanted))
    with connection:
        if not {"person", "person_identifier"} <= there:
            raise MedlakeError("E608", place="silver/person")
        _make_mine(connection, caller.subject)
        names, rows, _ = _select(connection, caller, "person", _PERSON, "SELECT * FROM silver.person")
        person = dict(zip(_labels("person", names), rows[0].values(), strict=True)) if rows else {}
        sections, fields, count, read = [], {*names}, len(rows), {"person"}
        for section in SECTIONS:
            found: tuple[list[str], list[dict[str, Any]], int] = ([], [], 0)
            if set(section.tables) <= there:
                found = _select(
                    connection, caller, section.table, section.fields, section.sql, section.newest
                )
                read |= set(section.tables)
            fields |= set(found[0])
            count += len(found[1])
            told = [name for name in found[0] if any(row[name] not in (None, "") for row in found[1])]
            sections.append(
                {"code": section.code, "label_zh": section.label_zh, "labels": _labels(section.table, told),
                 "fields": told, "rows": found[1], "total": found[2]}
            )  # fmt: skip
    return {
        "person": person,
        "sections": sections,
        "tables": sorted(f"silver/{t}" for t in read),
        "fields": sorted(fields),
        "rows": count,
    }
