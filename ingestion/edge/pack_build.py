"""At the centre: what each node is given, built from silver at visible versions, set by set.

A node sees the residents that its own institutions delivered (the institution and all below it in the register), and
about them only what these institutions delivered. A station also sees the archives of its own village or quarter that
its centre delivered: stations seldom deliver archives themselves.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.edge import pack_files
from ingestion.edge.entry_sql import entry_rules
from ingestion.edge.identity import CENTRE
from ingestion.edge.parameters import parameter
from ingestion.edge.pki import Authority
from ingestion.edge.register import Member
from ingestion.edge.take import tree
from ingestion.readers.json_rows import spellings
from lake import duck, ledger, registry
from lake.contracts import table_contract
from lake.log import logger
from lake.settings import settings

_log = logger("edge")
_TABLES = (
    "ph_archive", "patient", "allergy", "htn_visit", "dm_visit", "htn_card", "dm_card", "prescription_item", "encounter",
)  # fmt: skip
_INDEX = {
    "source_system": "VARCHAR", "org_code": "VARCHAR", "identifier_type": "VARCHAR", "identifier_value": "VARCHAR",
    "empi_id": "VARCHAR", "valid_to": "DATE",
}  # fmt: skip
_KEEP = 5

#: A node's own residents; ``records``, ``allergies``, ``drugs`` and ``dues`` are the group's, cut to its institutions.
_RESIDENTS = """
    WITH mine AS (SELECT * FROM record AS r WHERE {own}),
    person_of AS (
        SELECT
            person, arg_min(name, (rank, org_code)) AS name, arg_min(sex_code, (rank, org_code)) AS sex_code,
            arg_min(birth_date, (rank, org_code)) AS birth_date, arg_min(phone, (rank, org_code)) AS phone,
            bool_or(is_dead) AS is_dead, list_sort(list(DISTINCT archive_id)
                FILTER (WHERE archive_id IS NOT NULL)) AS archive_id,
            list_sort(list(DISTINCT id_no)
                FILTER (WHERE id_no IS NOT NULL)) AS id_no, list_sort(list(DISTINCT patient_local_id)
                FILTER (WHERE patient_local_id IS NOT NULL)) AS patient_local_id,
            list_sort(list(DISTINCT health_card_no)
                FILTER (WHERE health_card_no IS NOT NULL)) AS health_card_no, list_sort(list(DISTINCT org_code)) AS org_code
        FROM mine GROUP BY person),
    allergies AS (SELECT person, list_sort(list(DISTINCT allergy)) AS allergies FROM allergy_of AS r WHERE {own} GROUP BY person),
    drugs AS (
        SELECT person, list({{source: source, drug: drug, since: since}} ORDER BY since DESC, drug) AS drugs
        FROM (SELECT DISTINCT person, source, drug, since FROM drug_of AS r WHERE {own}) GROUP BY person),
    dues AS (
        SELECT person, list({{programme: programme, due_on: due_on, last_on: last_on}} ORDER BY due_on, programme) AS due
        FROM due_of AS r WHERE {own} GROUP BY person)
    SELECT 'resident' AS kind, person AS name, CAST(to_json({{
        name: p.name, sex_code: p.sex_code, birth_date: p.birth_date, phone: p.phone, is_dead: p.is_dead,
        archive_id: p.archive_id, id_no: p.id_no, patient_local_id: p.patient_local_id, health_card_no: p.health_card_no,
        org_code: p.org_code, allergies: a.allergies, drugs: d.drugs, due: u.due}}) AS VARCHAR) AS body
    FROM person_of AS p LEFT JOIN allergies AS a USING (person) LEFT JOIN drugs AS d USING (person)
    LEFT JOIN dues AS u USING (person)"""


def _source(versions: dict[str, int], table: str) -> str:
    """The table's view, or no rows of its shape when nothing was delivered yet."""
    if f"silver/{table}" in versions:
        return f"silver.{table}"
    columns = _INDEX if table == "person_identifier" else table_contract(table).silver_columns
    return "(SELECT " + ", ".join(f"CAST(NULL AS {t}) AS {c}" for c, t in columns.items()) + " WHERE false)"


def _prepare(connection: duckdb.DuckDBPyConnection, versions: dict[str, int], as_of: date) -> None:
    wanted = {f"silver/{t}" for t in (*_TABLES, "person_identifier")}
    duck.create_views(connection, {n: v for n, v in versions.items() if n in wanted})
    sql = (Path(__file__).parent / "pack.sql").read_text("utf-8")
    sql = sql.format(**{t: _source(versions, t) for t in (*_TABLES, "person_identifier")})
    sql = sql.replace(":as_of", as_of.isoformat())
    sql = sql.replace(":drug_days", str(int(parameter("drug_look_back_days", as_of))))
    connection.execute(sql.replace(":ahead_days", str(int(parameter("follow_up_ahead_days", as_of)))))


def _own(org: str) -> str:
    """SQL over ``r``: the record is of this institution's tree, or of a station's own quarter."""
    orgs = registry.orgs().to_pylist()
    listed = ", ".join(f"'{o}'" for o in sorted(tree(org)))
    station = next((o for o in orgs if o["org_code"] == org and o["org_kind"] == "station"), None)
    own = f"r.org_code IN ({listed})"
    if station and station["region_code"] and station["parent_org_code"]:
        own += f" OR (r.org_code = '{station['parent_org_code']}' AND r.region = '{station['region_code']}')"
    return f"({own})"


def entry_items() -> pa.Table:
    """Rules, the fields of their tables, and the codes these fields use: the same for every node."""
    rules, left = entry_rules()
    rows: list[tuple[str, str, Any]] = [("rule", f"{r['id']}|{r['table']}", r) for r in rules]
    systems: set[str] = set()
    for table in sorted({r["table"] for r in rules}):
        contract = table_contract(table)
        fields = [
            {"name": f.name, "type": f.type, "label_zh": f.label_zh, "required": f.required or f.is_key, "keys": spellings(f),
             "code_system": f.code_system}
            for f in contract.fields
        ]  # fmt: skip
        systems |= {f.code_system for f in contract.fields if f.code_system}
        rows.append(("table", table, {"label_zh": contract.label_zh, "fields": fields}))
    for system in sorted(systems):
        path = settings().seeds_dir / "codes" / f"{system}.csv"
        if path.exists():
            with path.open(encoding="utf-8") as file:
                rows.append(("codes", system, {r["code"]: r["name_zh"] for r in csv.DictReader(file)}))
    if left:
        _log.warning("edge_rules_left", rules=len(left))
    kinds, names, bodies = zip(*rows, strict=True)
    texts = [json.dumps(b, ensure_ascii=False, sort_keys=True) for b in bodies]
    return pa.table({"kind": pa.array(kinds), "name": pa.array(names), "body": pa.array(texts, pa.string())})


def build(as_of: date, nodes: Iterable[str] = ()) -> dict[str, Any]:
    """Build a new version of the packs of these nodes (all when none is named), where anything changed.

    Returns:
        nodes, changed, residents, and versions by node.

    Raises:
        MedlakeError: E293 no authority, E292 no such node.
    """
    authority = Authority()
    members = authority.register.members()
    wanted = [authority.register.member(n) for n in nodes] or list(members.values())
    wanted = [m for m in wanted if m.node != CENTRE and not m.revoked_at]
    versions = ledger.visible("silver/")
    settings().folder("edge").chmod(0o700)
    with duck.connect() as connection:
        _prepare(connection, versions, as_of)
        connection.register("entry_item", entry_items())
        built = {m.node: _build_one(connection, m, as_of, versions) for m in wanted}
    told = {n: v for n, (v, _, _) in built.items()}
    changed = sum(c for _, _, c in built.values())
    residents = sum(r for _, r, _ in built.values())
    _log.info("edge_packs_built", count=len(built), rows=residents, eligible=changed)
    return {"nodes": len(built), "changed": changed, "residents": residents, "versions": told}


def _build_one(
    connection: duckdb.DuckDBPyConnection, member: Member, as_of: date, versions: dict[str, int]
) -> tuple[int, int, int]:
    """Version, residents, and 1 when it is a new version."""
    folder = pack_files.folder(member.node)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    latest = pack_files.newest(member.node)
    draft = folder / ".draft.parquet"
    query = (
        f"{_RESIDENTS.format(own=_own(member.org_code))} UNION ALL SELECT kind, name, body FROM entry_item"
    )
    connection.execute(f"COPY ({query}) TO '{draft}' (FORMAT parquet, COMPRESSION zstd)")
    draft.chmod(0o600)
    count = "SELECT count(*) FILTER (kind = 'resident'), {} FROM read_parquet('{}')"
    same = "bit_xor(hash(kind, name, body)) || '|' || count(*)"
    (residents, mark) = connection.execute(count.format(same, draft)).fetchall()[0]
    if latest:
        (_, before) = connection.execute(count.format(same, folder / f"v{latest:06d}.parquet")).fetchall()[0]
        if before == mark:
            draft.unlink()
            return latest, residents, 0
    facts = {
        "org_code": member.org_code,
        "data_date": as_of.isoformat(),
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "silver": {n: v for n, v in sorted(versions.items()) if n.removeprefix("silver/") in _TABLES},
    }
    told = folder / f"v{latest + 1:06d}.json"
    told.write_text(json.dumps(facts))
    told.chmod(0o600)
    draft.rename(folder / f"v{latest + 1:06d}.parquet")
    for old in pack_files.versions(member.node)[:-_KEEP]:
        for path in [*folder.glob(f"v{old:06d}.*"), *folder.glob(f"{old:06d}-*.pack")]:
            path.unlink()
    for path in folder.glob(f"*-{latest:06d}.pack"):
        path.unlink()
    return latest + 1, residents, 1
