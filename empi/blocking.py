"""Candidate pairs: records that agree on one of the model's blocking rules, each pair once, with its first rule.

Splink's own blocking asks of each rule's pairs whether an earlier rule has them, pair by pair; here every rule is a
plain hash join and the pairs are made distinct at the end, which costs a sixteenth at a million records. A key that
too many records share (10,000 people under one telephone) proposes nothing: it is left out and told.
"""

from __future__ import annotations

import duckdb

from empi.model import BLOCKING

#: A block of n records proposes n(n-1)/2 pairs. No family, village of one name or ward card is larger than this.
BLOCK_MAX_RECORDS = 200
_BUCKETS = 1 << 22


def key_column(column: str, alias: str) -> str:
    """A rule's column, or an expression on one (``left(dob, 4)``), on one side of the join."""
    return column.replace("left(", f"left({alias}.", 1) if column.startswith("left(") else f"{alias}.{column}"


def _pairs(number: int, rule: tuple[str, ...]) -> str:
    equal = " AND ".join(f"{key_column(c, 'l')} = {key_column(c, 'r')}" for c in rule)
    crowd = " AND ".join(f"{key_column(c, 'l')} = x.k{i}" for i, c in enumerate(rule))
    return f"""SELECT {number}::UTINYINT AS rule, l.rec_no AS rec_l, r.rec_no AS rec_r
        FROM linkable l JOIN linkable r ON {equal}
        WHERE l.rec_no < r.rec_no AND NOT EXISTS (SELECT 1 FROM crowd_{number} x WHERE {crowd})"""


def find_crowds(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``crowd_<rule>`` (the keys that too many records share) and ``crowd(rule, keys, records, largest)``."""
    told = []
    for number, rule in enumerate(BLOCKING):
        keys = ", ".join(f"{key_column(c, 'l')} AS k{i}" for i, c in enumerate(rule))
        names = ", ".join(f"k{i}" for i in range(len(rule)))
        known = " AND ".join(f"k{i} IS NOT NULL" for i in range(len(rule)))
        within = f"(SELECT {keys} FROM linkable l)"
        # a bucket of hashes that is no crowd holds none: only the others' keys are counted one by one
        buckets = f"""SELECT hash({names}) & {_BUCKETS - 1} AS bucket FROM {within} WHERE {known}
            GROUP BY bucket HAVING count(*) > {BLOCK_MAX_RECORDS}"""
        connection.execute(
            f"""CREATE OR REPLACE TABLE crowd_{number} AS
            SELECT {names}, count(*) AS records FROM {within}
            WHERE {known} AND hash({names}) & {_BUCKETS - 1} IN ({buckets})
            GROUP BY ALL HAVING count(*) > {BLOCK_MAX_RECORDS}"""
        )
        told.append(
            f"SELECT '{' + '.join(rule)}' AS rule, count(*) AS keys, coalesce(sum(records), 0)::BIGINT AS records,"
            f" coalesce(max(records), 0) AS largest FROM crowd_{number} HAVING count(*) > 0"
        )
    connection.execute(f"CREATE OR REPLACE TABLE crowd AS {' UNION ALL '.join(told)}")


def propose(connection: duckdb.DuckDBPyConnection) -> int:
    """Make ``proposed(rule, rec_l, rec_r)``, each pair once with the number of the first rule that holds; its length.

    Reads ``linkable`` and the crowds (:func:`find_crowds`). Each rule is joined once for all records, since the table
    of keys that a join builds costs more than its pairs; a pair is nine bytes, and DuckDB spills what it cannot hold.
    """
    connection.execute("CREATE OR REPLACE TABLE met (rule UTINYINT, rec_l INTEGER, rec_r INTEGER)")
    for number, rule in enumerate(BLOCKING):
        connection.execute(f"INSERT INTO met {_pairs(number, rule)}")
    connection.execute(
        "CREATE OR REPLACE TABLE proposed AS SELECT min(rule) AS rule, rec_l, rec_r FROM met GROUP BY rec_l, rec_r"
    )
    connection.execute("DROP TABLE met")
    return int(connection.execute("SELECT count(*) FROM proposed").fetchall()[0][0])


def take(connection: duckdb.DuckDBPyConnection, first: int, last: int) -> int:
    """Make ``candidate(match_key, join_key_l, join_key_r)``: proposed pairs whose smaller record is in [first, last).

    Returns their number. The columns are those that Splink expects of a table of blocked pairs; ``match_key`` is the
    number of the first rule that holds.
    """
    connection.execute(
        f"""CREATE OR REPLACE TABLE candidate AS
        SELECT rule::VARCHAR AS match_key, rec_l AS join_key_l, rec_r AS join_key_r FROM proposed
        WHERE rec_l >= {first} AND rec_l < {last}"""
    )
    return int(connection.execute("SELECT count(*) FROM candidate").fetchall()[0][0])
