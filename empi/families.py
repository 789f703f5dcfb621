"""What a record says about its family: the mother's telephone for a newborn, and signs of a multiple birth.

Twins share mother, day, home and telephone, and a newborn has no name yet: then nothing but an id tells who is
who. Where a day and a home hold two trusted ids, or one institution registered two newborns of one mother, the
guards (``empi.guards``) hold back what they would let pass for an only child.
"""

from __future__ import annotations

import duckdb

#: Who was born into the same home on the same day, by each thing that stands for a home.
HOMES: tuple[tuple[str, ...], ...] = (("dob", "phone"), ("dob", "village", "house"), ("dob", "kin_phone"))
#: A nameless newborn's home is its mother.
MOTHERS = ("dob", "mother_nm")


def borrow_from_mother(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a newborn without telephone or address those of the mother's record at the same institution."""
    connection.execute(
        """UPDATE record SET phone = coalesce(record.phone, m.phone), kin_phone = coalesce(record.kin_phone, m.phone),
               town = CASE WHEN record.village IS NULL THEN m.town ELSE record.town END,
               village = coalesce(record.village, m.village),
               house = CASE WHEN record.village IS NULL THEN m.house ELSE record.house END
        FROM source_record s JOIN record m ON m.source_system = s.source_system AND m.org_code = s.org_code
             AND m.identifier_value = s.mother_identifier
        WHERE s.rec_no = record.rec_no AND record.birth_mark IS NOT NULL AND m.rec_no <> record.rec_no"""
    )


def mark_multiple_births(connection: duckdb.DuckDBPyConnection, table: str = "record") -> None:
    """Set ``is_multiple_birth`` where one home has two trusted ids of one day, or one mother two newborns or cards.

    ``table``: ``record``, or a part of it that holds whole homes (:data:`HOMES`) of the records that matter.
    """
    signs = [
        f"""SELECT r.rec_no FROM {table} r JOIN (
            SELECT {", ".join(home)} FROM {table} WHERE id_own AND {" AND ".join(f"{c} IS NOT NULL" for c in home)}
            GROUP BY ALL HAVING count(DISTINCT idno) > 1) USING ({", ".join(home)})"""
        for home in HOMES
    ]
    signs.append(
        f"""SELECT r.rec_no FROM {table} r JOIN (
            SELECT dob, mother_nm FROM (SELECT dob, mother_nm, source_system, org_code FROM {table}
                WHERE birth_mark IS NOT NULL GROUP BY ALL HAVING count(*) > 1)
            UNION ALL SELECT dob, mother_nm FROM {table} WHERE birth_mark IS NOT NULL
            GROUP BY ALL HAVING count(DISTINCT card) > 1) USING (dob, mother_nm)"""
    )
    connection.execute(
        f"UPDATE {table} SET is_multiple_birth = true WHERE rec_no IN ({' UNION ALL '.join(signs)})"
    )
