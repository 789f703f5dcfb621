"""The one register of the operational database's tables; ``lake.ops`` and its neighbours put theirs in."""

from __future__ import annotations

from sqlalchemy import MetaData

metadata = MetaData()
