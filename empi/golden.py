"""The golden record of each person, computed anew from all of its records; it is never edited.

Survivorship: a record whose id is trusted > the kind of source > the newest. Name, sex, birth date and id follow
that order; telephone and address are the newest, since people move. A death is believed from any archive, and
from the death register when id and name or birth date agree.
"""

from __future__ import annotations

import duckdb

#: Smaller wins. A hospital sees the card; an archive is often copied from a household register.
SOURCE_RANK = {"his": 1, "public_health": 2, "lis": 3, "pacs": 4}

_RANK = (
    "CASE s.source_system " + " ".join(f"WHEN '{s}' THEN {r}" for s, r in SOURCE_RANK.items()) + " ELSE 9 END"
)


def build_person(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``person`` (the new ``silver/person``) from ``now``, ``record``, ``source_record`` and ``death``."""
    connection.execute(
        f"""CREATE OR REPLACE TABLE person AS
        WITH ranked AS (
            SELECT n.empi_id, r.nm, s.name, r.sex, s.sex_code, r.idno, r.id_own, r.phone, s.addr_detail,
                   r.region_code, s.is_dead, s.death_date,
                   CASE WHEN r.id_own AND length(r.idno) = 18 THEN id_birth_date(r.idno) ELSE r.birth_day END AS born,
                   row_number() OVER (PARTITION BY n.empi_id ORDER BY contains(r.nm, '*'), r.id_own DESC, {_RANK},
                                      s.updated_at DESC NULLS LAST, s.rec_no) AS best,
                   row_number() OVER (PARTITION BY n.empi_id
                                      ORDER BY s.updated_at DESC NULLS LAST, s.rec_no) AS newest
            FROM now n JOIN record r USING (rec_no) JOIN source_record s USING (rec_no)),
        golden AS (
            SELECT empi_id, coalesce(arg_min(nm, best), arg_min(name, best)) AS name,
                   coalesce(arg_min(sex, best), arg_min(sex_code, best)) AS sex_code,
                   arg_min(born, best) AS birth_date, arg_min(idno, best) FILTER (id_own) AS id_no,
                   arg_min(phone, newest) AS phone, arg_min(addr_detail, newest) AS addr_detail,
                   arg_min(region_code, newest) AS region_code, bool_or(coalesce(is_dead, false)) AS is_dead,
                   arg_min(death_date, newest) AS death_date, count(*) AS record_count, bool_or(id_own) AS has_trusted_id
            FROM ranked GROUP BY empi_id),
        died AS (
            SELECT g.empi_id, min(d.died_on) AS died_on FROM golden g JOIN death d ON id_18(id_clean(d.id_no)) = g.id_no
            WHERE d.name = g.name OR d.birth_date = g.birth_date GROUP BY g.empi_id)
        SELECT g.empi_id, k.person_token, g.name, g.sex_code, g.birth_date, g.id_no, g.phone, g.addr_detail,
               g.region_code, g.is_dead OR d.died_on IS NOT NULL AS is_deceased,
               coalesce(d.died_on, g.death_date) AS death_date, g.record_count, g.has_trusted_id
        FROM golden g JOIN person_key k USING (empi_id) LEFT JOIN died d USING (empi_id)"""
    )
