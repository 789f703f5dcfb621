"""A linked city of 1,500 residents with pairs to decide and archives to settle, for the pages of identity."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import empi
import worklist
from bench import empi_city
from empi import archives, online
from empi.review import ask
from lake import duck, ops, tables


def make(home: Path) -> None:
    """All of it under the home that the settings name."""
    empi_city.prepare(str(home), 1500, 11)
    at = tables.scan_sql("silver/ph_archive")
    opened = duck.connect().execute(f"SELECT * REPLACE ('0' AS status_code) FROM {at}").to_arrow_table()
    tables.overwrite("silver/ph_archive", opened)
    empi_city.show("ph_archive")
    empi.link(empi_city.DAY)
    online.build()
    ask(empi_city.DAY)
    archives.propose(empi_city.DAY)
    archives.ask(empi_city.DAY)
    worklist.migrate()
    worklist.take_requests(datetime.now(UTC))
    ops.engine().dispose()
