"""Persons registered twice while apart: at a node that was cut off, and meanwhile somewhere else.

Set by set over silver at visible versions; whoever has the same identity number, or the same name, birth date and sex,
goes to identity review. The request's subject is a token of the pair: no identifier, no local number.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingestion.edge import watch
from ingestion.edge.pack_build import _source
from ingestion.edge.parameters import parameter
from ingestion.edge.take import tree
from lake import duck, ledger, work
from lake.crypto import token
from lake.local_time import SHANGHAI
from lake.work import Request

#: How far back times apart are looked at: late data arrives days later, and asking again changes nothing.
LOOK_BACK = timedelta(days=30)


#: Table of the registers -> the system whose record a row is, as identity linking names it.
_SYSTEMS = {"patient": "his", "ph_archive": "public_health"}


def _key(place: str, side: str) -> dict[str, str]:
    """The key of a record, which an answer to the review is about, from its place ``table/org|local id``."""
    table, _, rest = place.partition("/")
    org, _, value = rest.partition("|")
    return {
        f"source_system_{side}": _SYSTEMS[table],
        f"org_code_{side}": org,
        f"identifier_value_{side}": value,
    }


def flag(data_date: date) -> dict[str, Any]:
    """Ask for identity review of every pair registered while apart. Returns absences, pairs, and how many were new."""
    margin = timedelta(hours=parameter("apart_margin_hours", data_date))
    since = datetime.combine(data_date, datetime.min.time(), SHANGHAI).astimezone(UTC) - LOOK_BACK
    gone = watch.absences(since)
    if not gone:
        return {"absences": 0, "pairs": 0, "new": 0}
    apart = pa.table(
        {
            "node": [n for n, _, _, _ in gone],
            "orgs": pa.array([sorted(tree(o)) for _, o, _, _ in gone], pa.list_(pa.string())),
            "from_at": pa.array([f - margin for _, _, f, _ in gone], pa.timestamp("us", tz="UTC")),
            "to_at": pa.array([t + margin for _, _, _, t in gone], pa.timestamp("us", tz="UTC")),
        }
    )
    versions = {
        n: v for n, v in ledger.visible("silver/").items() if n in ("silver/ph_archive", "silver/patient")
    }
    with duck.connect() as connection:
        duck.create_views(connection, versions)
        connection.register("apart", apart)
        sql = (Path(__file__).parent / "apart.sql").read_text("utf-8")
        connection.execute(
            sql.format(ph_archive=_source(versions, "ph_archive"), patient=_source(versions, "patient"))
        )
        pairs = connection.execute(
            "SELECT one, other, org_code, same_id, registered_at FROM twin ORDER BY ALL"
        ).fetchall()
    asked = []
    for one, other, org, same_id, at in pairs:  # one request a pair of people
        mark = token("edge_twin", f"{one}|{other}")
        payload = {"records": [one, other], "same_id_no": same_id, "reason_zh": "断网期间在两处登记"}
        payload |= _key(one, "l") | _key(other, "r")
        asked.append(
            Request(f"edge_twin|{mark}", "empi_review", org, "warn", f"edge_twin/{mark}", at, "edge", payload)
        )
    return {"absences": len(gone), "pairs": len(pairs), "new": work.ask(asked)}
