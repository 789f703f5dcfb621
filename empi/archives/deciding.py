"""From evidence to proposals: the first rule that names one institution decides, and the others are held against it."""

from __future__ import annotations

from datetime import date

import duckdb

from empi.archives.rules import LAST_RESORT, Rules
from empi.sources import as_date

#: Surest first. ``certain``: a fresh address in words, and nothing newer speaks against it. ``likely``: decided, but by
#: less. ``unclear``: something newer speaks against it, or no rule decided.
CONFIDENCE = ("certain", "likely", "unclear")

_LAST = """
CREATE OR REPLACE TABLE by_archive AS
SELECT empi_id, arg_min(managed_by, place) AS org_code,
       CAST(timezone('Asia/Shanghai', max(updated_at)) AS DATE) AS on_date, 'ph_archive' AS basis,
       arg_min(managed_by, place) AS from_org_code, false AS is_tied
FROM (SELECT *, row_number() OVER (PARTITION BY empi_id ORDER BY updated_at DESC NULLS LAST, org_code, archive_id) AS place
      FROM member) GROUP BY empi_id
"""
_DECIDED = """
CREATE OR REPLACE TABLE decided AS
WITH told AS (
    {told}),
first AS (
    SELECT empi_id, arg_min(rule, nr) AS decided_by, arg_min(org_code, nr) AS org_code,
           arg_min(on_date, nr) AS on_date, arg_min(basis, nr) AS basis
    FROM told WHERE org_code IS NOT NULL GROUP BY empi_id),
held AS (
    SELECT f.*, coalesce(bool_or(t.is_tied AND t.nr < {last}), false) AS has_tie,
           -- an old service is history, not an objection; the last resort is no evidence
           coalesce(bool_or(t.org_code <> f.org_code AND t.nr < {last} AND NOT (t.rule = 'service'
                    AND t.on_date <= {today} - {service_days})), false) AS is_contradicted,
           coalesce(bool_or(t.org_code <> f.org_code AND t.nr < {last} AND t.on_date > f.on_date), false) AS by_newer,
           coalesce(bool_or(t.org_code = f.org_code AND t.rule <> f.decided_by AND t.nr < {last}), false) AS is_confirmed,
           list({{'rule': t.rule, 'org_code': t.org_code, 'on': strftime(t.on_date, '%Y-%m-%d'), 'basis': t.basis,
                  'from_org_code': t.from_org_code, 'tied': t.is_tied, 'decides': t.rule = f.decided_by,
                  'agrees': t.org_code IS NOT DISTINCT FROM f.org_code}} ORDER BY t.nr)
               FILTER (t.nr < {last} OR t.rule = f.decided_by) AS evidence
    FROM first f JOIN told t USING (empi_id)
    GROUP BY f.empi_id, f.decided_by, f.org_code, f.on_date, f.basis)
SELECT *, CASE
    WHEN decided_by = '{last_resort}' OR by_newer THEN 'unclear'
    WHEN decided_by = 'address' AND on_date > {today} - {address_days}
         AND (basis LIKE '%/stated' OR basis LIKE '%/village') AND (is_confirmed OR NOT is_contradicted) THEN 'certain'
    WHEN decided_by = 'address' AND basis LIKE '%/code' AND is_contradicted THEN 'unclear'
    ELSE 'likely' END AS confidence
FROM held
"""
#: Which of the archives stays: one at the managing institution; then the one with a contract in force, the last
#: face-to-face service, the most services, the oldest; the number last, so that there is always one.
_KEEPER = """
CREATE OR REPLACE TABLE keeper AS
WITH used AS (
    SELECT org_code, archive_id, max(done_on) FILTER (is_face_to_face) AS seen_on, count(*) AS services
    FROM service WHERE archive_id IS NOT NULL GROUP BY ALL),
signed AS (SELECT org_code, archive_id, max(signed_on) AS signed_on FROM contract GROUP BY ALL)
SELECT m.empi_id, m.org_code AS keeper_org_code, m.archive_id AS keeper_archive_id, m.managed_by AS keeper_managed_by
FROM member m JOIN decided d USING (empi_id)
LEFT JOIN used u ON u.org_code = m.org_code AND u.archive_id = m.archive_id
LEFT JOIN signed s ON s.org_code = m.org_code AND s.archive_id = m.archive_id
QUALIFY row_number() OVER (PARTITION BY m.empi_id ORDER BY m.managed_by = d.org_code DESC, s.signed_on DESC NULLS LAST,
    u.seen_on DESC NULLS LAST, coalesce(u.services, 0) DESC, m.created_on NULLS LAST, m.org_code, m.archive_id) = 1
"""
_PROPOSAL = """
CREATE OR REPLACE TABLE proposal AS
SELECT 'A' || left(sha256('archive_proposal|' || m.org_code || '|' || m.archive_id), 19) AS proposal_id,
       m.empi_id, m.person_token, m.org_code, m.archive_id,
       CASE WHEN (m.org_code, m.archive_id) <> (k.keeper_org_code, k.keeper_archive_id) THEN 'close'
            WHEN k.keeper_managed_by = d.org_code THEN 'keep' ELSE 'move' END AS action,
       m.managed_by AS from_org_code, d.org_code AS managing_org_code, k.keeper_org_code, k.keeper_archive_id,
       v.active_archives, d.decided_by, d.confidence, d.is_contradicted, d.has_tie,
       a.org_code AS address_org_code, a.on_date AS address_on, a.basis AS address_basis,
       c.org_code AS contract_org_code, c.on_date AS contract_on,
       s.org_code AS service_org_code, s.on_date AS service_on, s.basis AS service_basis,
       CAST(to_json(d.evidence) AS VARCHAR) AS evidence, {valid_from} AS rules_valid_from
FROM member m JOIN several v USING (empi_id) JOIN decided d USING (empi_id) JOIN keeper k USING (empi_id)
LEFT JOIN by_address a USING (empi_id) LEFT JOIN by_contract c USING (empi_id) LEFT JOIN by_service s USING (empi_id)
"""


def decide(connection: duckdb.DuckDBPyConnection, data_date: date, rules: Rules) -> None:
    """Make ``proposal``, one row for each active archive of a resident who has several."""
    connection.execute(_LAST)
    order = [*rules.order, LAST_RESORT]
    told = " UNION ALL ".join(
        f"SELECT {nr} AS nr, '{rule}' AS rule, empi_id, org_code, on_date, basis, from_org_code, is_tied FROM by_{rule}"
        for nr, rule in enumerate(order)
    )
    connection.execute(
        _DECIDED.format(
            told=told,
            last=len(order) - 1,
            last_resort=LAST_RESORT,
            today=as_date(data_date),
            address_days=rules.address_fresh_days,
            service_days=rules.service_fresh_days,
        )
    )
    connection.execute(_KEEPER)
    connection.execute(_PROPOSAL.format(valid_from=as_date(rules.valid_from)))
