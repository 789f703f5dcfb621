"""Announced against arrived: an archive's counts of a study beside the objects that are in silver.

Both are read at the moment of asking, so no order of deliveries can make them wrong. A study of which nothing has
arrived as files is no gap where its objects are not delivered at all: ``arrived_instances`` is then null.
"""

from __future__ import annotations

from typing import Any

from lake import duck, tables

_STUDY, _INSTANCE = "silver/imaging_study", "silver/imaging_instance"


def _current(name: str) -> str:
    """A silver table's rows that are not deleted."""
    where = " WHERE NOT coalesce(is_deleted, false)" if "is_deleted" in tables.columns(name) else ""
    return f"(SELECT * FROM {tables.scan_sql(name)}{where})"


def studies(
    org_code: str | None = None, *, incomplete_only: bool = True, limit: int = 1000
) -> list[dict[str, Any]]:
    """Studies with announced and arrived counts, the least complete first.

    Returns:
        org_code, study_instance_uid, study_at, announced_series, announced_instances, arrived_series,
        arrived_instances, arrived_bytes, modalities, missing_instances.
    """
    if not tables.exists(_STUDY) and not tables.exists(_INSTANCE):
        return []
    arrived = """(SELECT ''::VARCHAR AS org_code, ''::VARCHAR AS study_instance_uid, NULL::TIMESTAMPTZ AS study_at,
        0 AS arrived_series, 0 AS arrived_instances, 0 AS arrived_bytes, ''::VARCHAR AS modalities WHERE false)"""
    if tables.exists(_INSTANCE):
        arrived = f"""(SELECT org_code, study_instance_uid, min(study_at) AS study_at,
            count(DISTINCT series_instance_uid) AS arrived_series, count(*) AS arrived_instances,
            sum(file_bytes)::BIGINT AS arrived_bytes,
            array_to_string(list_sort(list_distinct(list(modality_code))), '\\') AS modalities
            FROM {_current(_INSTANCE)} GROUP BY ALL)"""
    announced = """(SELECT ''::VARCHAR AS org_code, ''::VARCHAR AS study_instance_uid, NULL::TIMESTAMPTZ AS study_at,
        NULL::BIGINT AS series_count, NULL::BIGINT AS instance_count, NULL::VARCHAR AS modalities WHERE false)"""
    if tables.exists(_STUDY):
        announced = f"""(SELECT org_code, study_instance_uid, study_at, series_count, instance_count, modalities
            FROM {_current(_STUDY)})"""
    wanted = ["(n.org_code = $org OR a.org_code = $org OR $org IS NULL)"]
    if incomplete_only:
        wanted.append("n.instance_count > coalesce(a.arrived_instances, n.instance_count)")
    with duck.connect() as con:
        found = con.execute(
            f"""SELECT coalesce(n.org_code, a.org_code) AS org_code,
                coalesce(n.study_instance_uid, a.study_instance_uid) AS study_instance_uid,
                coalesce(n.study_at, a.study_at) AS study_at,
                n.series_count AS announced_series, n.instance_count AS announced_instances,
                a.arrived_series, a.arrived_instances, a.arrived_bytes,
                coalesce(n.modalities, a.modalities) AS modalities,
                CASE WHEN n.instance_count IS NOT NULL AND a.arrived_instances IS NOT NULL
                     THEN greatest(n.instance_count - a.arrived_instances, 0) END AS missing_instances
            FROM {announced} n FULL JOIN {arrived} a USING (org_code, study_instance_uid)
            WHERE {" AND ".join(wanted)} ORDER BY missing_instances DESC NULLS LAST, org_code, study_instance_uid
            LIMIT {int(limit)}""",
            {"org": org_code},
        )
        names = [c[0] for c in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
