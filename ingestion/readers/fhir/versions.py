"""Which version of each resource counts: of a delivery the newest, unless silver holds a newer one; and what silver
held before. Everything by sets, in DuckDB, with only the touched resources' content read."""

from __future__ import annotations

import duckdb

from ingestion.readers.fhir.expressions import reference, text
from ingestion.readers.fhir.mapping import mappings
from ingestion.readers.fhir.staged import Collected
from lake import tables
from lake.settings import settings

_SILVER = "silver/fhir_resource"
_REPORT = "DiagnosticReport"
_COLUMNS = "file_no, source_line, org_code, resource_type, resource_id, updated, content"


def _listed(names: frozenset[str] | set[str]) -> str:
    return ", ".join(text(n) for n in sorted(names)) or "''"


def _held(*, deleted_too: bool = False) -> str:
    """Silver's resources; a relation without rows where there are none yet."""
    if not tables.exists(_SILVER):
        return """(SELECT ''::VARCHAR AS org_code, ''::VARCHAR AS resource_type, ''::VARCHAR AS resource_id,
            NULL::TIMESTAMPTZ AS last_updated_at, ''::VARCHAR AS content WHERE false)"""
    has_mark = "is_deleted" in tables.columns(_SILVER)
    where = " WHERE NOT coalesce(is_deleted, false)" if has_mark and not deleted_too else ""
    return f"(SELECT * FROM {tables.scan_sql(_SILVER)}{where})"


def listed_results(relation: str) -> str:
    """``org_code, report_id, resource_id, position``: the observations that diagnostic reports list, in their order."""
    return f"""
        SELECT org_code, report_id, {reference("r")} AS resource_id, position FROM (
            SELECT org_code, resource_id AS report_id,
                unnest(json_extract_string(content, '$.result[*].reference')) AS r,
                generate_subscripts(json_extract_string(content, '$.result[*].reference'), 1) AS position
            FROM {relation} WHERE resource_type = '{_REPORT}')"""


def _raw(scan: str) -> str:
    default = text(settings().default_org_code)
    return f"""(SELECT n, file_no, source_line, coalesce(nullif(org_code, ''), {default}) AS org_code, resource_type,
        resource_id, last_updated, coalesce(last_updated, delivered) AS updated, op, content FROM {scan})"""


def current(found: Collected, resource_type: str) -> str:
    """The resources of a type as this delivery has them, observations that a new report lists among them."""
    again = f"SELECT {_COLUMNS} FROM relinked WHERE resource_type = {text(resource_type)}"
    if resource_type not in found.parts:
        return f"({again})"
    here = f"SELECT {_COLUMNS} FROM {_raw(found.scan(resource_type))} SEMI JOIN taken USING (n)"
    return f"({here} UNION ALL {again})"


def previous(resource_type: str) -> str:
    """The same resources as silver has them."""
    return f"(SELECT {_COLUMNS} FROM previous WHERE resource_type = {text(resource_type)})"


def prepare(con: duckdb.DuckDBPyConnection, found: Collected) -> None:
    """Make the relations that ``current`` and ``previous`` read, and ``links`` and ``links_before``: reports and
    their observations, now and before."""
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE chosen AS
        SELECT n, file_no, source_line, org_code, resource_type, resource_id, updated, op,
            try_cast(last_updated AS TIMESTAMPTZ) AS version_at
        FROM {_raw(found.scan())} QUALIFY row_number() OVER (
            PARTITION BY org_code, resource_type, resource_id
            ORDER BY try_cast(last_updated AS TIMESTAMPTZ) DESC NULLS LAST, n DESC) = 1""")
    con.execute(f"""
        DELETE FROM chosen USING {_held(deleted_too=True)} h WHERE chosen.org_code = h.org_code
        AND chosen.resource_type = h.resource_type AND chosen.resource_id = h.resource_id
        AND chosen.version_at < h.last_updated_at""")
    con.execute("CREATE OR REPLACE TEMP TABLE taken AS SELECT n FROM chosen WHERE op = 'U'")
    _prepare_links(con, found)
    _prepare_previous(con)


def _prepare_links(con: duckdb.DuckDBPyConnection, found: Collected) -> None:
    """Reports and observations need not come together: silver's reports of the touched observations count too, and
    silver's observations that a new report lists are read again (``relinked``)."""
    held = _held()
    if _REPORT in found.parts:
        reports_now = f"(SELECT {_COLUMNS} FROM {_raw(found.scan(_REPORT))} SEMI JOIN taken USING (n))"
    else:
        reports_now = f"(SELECT * FROM {held} WHERE false)"
    con.execute(f"CREATE OR REPLACE TEMP TABLE links_new AS {listed_results(reports_now)}")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE observed AS
        SELECT org_code, resource_id FROM chosen WHERE resource_type = 'Observation'
        UNION SELECT org_code, resource_id FROM links_new""")
    touched = con.execute("SELECT count(*) FROM observed").fetchone()
    reports = con.execute(f"SELECT count(*) FROM chosen WHERE resource_type = '{_REPORT}'").fetchone()
    needed = bool(touched and touched[0]) or bool(reports and reports[0])
    before = f"""SELECT l.* FROM ({listed_results(held)}) l WHERE EXISTS (SELECT 1 FROM observed o
            WHERE o.org_code = l.org_code AND o.resource_id = l.resource_id)
        OR EXISTS (SELECT 1 FROM chosen c WHERE c.resource_type = '{_REPORT}' AND c.org_code = l.org_code
            AND c.resource_id = l.report_id)"""
    none = "SELECT * FROM links_new WHERE false"
    con.execute(f"CREATE OR REPLACE TEMP TABLE links_before AS {before if needed else none}")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE links AS
        SELECT org_code, resource_id, min_by(report_id, (report_id, position)) AS report_id,
            min_by(position, (report_id, position)) AS position
        FROM (SELECT * FROM links_new UNION SELECT b.* FROM links_before b ANTI JOIN
            (SELECT org_code, resource_id AS report_id FROM chosen WHERE resource_type = '{_REPORT}') c
            USING (org_code, report_id))
        GROUP BY org_code, resource_id""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE links_before AS
        SELECT org_code, resource_id, min_by(report_id, (report_id, position)) AS report_id,
            min_by(position, (report_id, position)) AS position
        FROM links_before GROUP BY org_code, resource_id""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE relinked AS
        SELECT c.file_no, c.source_line, h.org_code, h.resource_type, h.resource_id, c.updated, h.content
        FROM (SELECT org_code, resource_id FROM links_new UNION SELECT org_code, resource_id FROM links_before) o
        ANTI JOIN (SELECT * FROM chosen WHERE resource_type = 'Observation') done USING (org_code, resource_id)
        JOIN {held} h ON h.org_code = o.org_code AND h.resource_id = o.resource_id AND h.resource_type = 'Observation'
        JOIN (SELECT org_code, any_value(file_no) AS file_no, any_value(source_line) AS source_line,
              max(updated) AS updated FROM chosen WHERE resource_type = '{_REPORT}' GROUP BY org_code) c
          ON c.org_code = o.org_code
        WHERE (SELECT coalesce(l.report_id, '') FROM links l WHERE l.org_code = o.org_code AND l.resource_id = o.resource_id)
            IS DISTINCT FROM (SELECT coalesce(b.report_id, '') FROM links_before b
            WHERE b.org_code = o.org_code AND b.resource_id = o.resource_id)""")


def _prepare_previous(con: duckdb.DuckDBPyConnection) -> None:
    """What silver holds of the touched resources: of deleted ones always, of others where their rows' keys may
    move. They take the place and the instant of what touches them."""
    movable = {m.resource for m in mappings() if not m.is_stable}
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE previous AS
        SELECT c.file_no, c.source_line, h.org_code, h.resource_type, h.resource_id, c.updated, h.content
        FROM {_held()} h JOIN chosen c USING (org_code, resource_type, resource_id)
        WHERE c.op = 'D' OR c.resource_type IN ({_listed(movable)})
        UNION ALL SELECT {_COLUMNS} FROM relinked""")
