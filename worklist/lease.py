"""One leader among several processes, by a row in the database that must be renewed.

Two processes that both believe to lead (a paused machine) do no harm: every step locks its rows and checks again.
The lease saves work, it does not carry correctness.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from worklist import store, tables

_t = tables.lease.c


def acquire(name: str, holder: str, now: datetime, seconds: float) -> bool:
    """Take or renew the lease. True while this holder leads."""
    until = now + timedelta(seconds=seconds)
    try:
        with store.begin() as connection:
            free = or_(_t.holder == holder, _t.until < now)
            renewed = connection.execute(
                update(tables.lease)
                .where(_t.name == name, free)
                .values(holder=holder, until=until, term=_t.term + 1)
            )
            if renewed.rowcount:
                return True
            if connection.execute(select(_t.name).where(_t.name == name)).one_or_none():
                return False
            connection.execute(insert(tables.lease).values(name=name, holder=holder, until=until, term=1))
            return True
    except IntegrityError:
        return False  # another process made the row at the same time


def release(name: str, holder: str, now: datetime) -> None:
    """Give the lease up, so that another process leads at once."""
    with store.begin() as connection:
        connection.execute(
            update(tables.lease)
            .where(_t.name == name, _t.holder == holder)
            .values(until=now - timedelta(seconds=1))
        )
