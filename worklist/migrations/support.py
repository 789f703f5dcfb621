"""What the revisions share: a table is made only where it is not there yet, an index likewise.

Databases of the first releases were made without a history (``create_all``); their tables are taken over.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create(table: sa.Table) -> None:
    """Make a table and its indexes, each where it is missing."""
    bind = op.get_bind()
    if sa.inspect(bind).has_table(table.name):
        known = {i["name"] for i in sa.inspect(bind).get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in known:
                index.create(bind)
        return
    table.create(bind)


def add_column(table: str, column: sa.Column) -> None:
    """Add a column to a table where it is missing; it must be nullable or have a server default."""
    present = {c["name"] for c in sa.inspect(op.get_bind()).get_columns(table)}
    if column.name not in present:
        op.add_column(table, column)
