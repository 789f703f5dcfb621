"""Which merge retired an id: the name under which it can be undone."""

from __future__ import annotations

from sqlalchemy import select

from empi.redirects import TABLE
from lake import duck, ledger, ops, tables


def merge_of(empi_id: str) -> str | None:
    """The merge in force that retired an id: ``change_id`` of an online one, else ``event_id`` of a run's; None without.

    The newest online change of the id tells, if that is a merge; else the lake's redirect.
    """
    t = ops.registry_change
    newest = (
        select(t.c.kind, t.c.change_id).where(t.c.other_empi_id == empi_id).order_by(t.c.seq.desc()).limit(1)
    )
    with ops.engine().begin() as connection:
        row = connection.execute(newest).one_or_none()
    if row is not None and row.kind == "merge":
        return str(row.change_id)
    visible = ledger.visible("silver/")
    if TABLE not in visible:
        return None
    lake = duck.connect()
    try:
        rows = lake.execute(
            f"SELECT event_id FROM {tables.scan_sql(TABLE, visible[TABLE])} WHERE empi_id = ?", [empi_id]
        ).fetchall()
    finally:
        lake.close()
    return str(rows[0][0]) if rows else None
