"""Who looked at records of mental disorders: the access log that the county platform delivers beside its tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, instants, pick, serial_ids, to_days, weighted
from simulator.clinical.served import same
from simulator.clinical.window import Window

DAYS = 60  # of the log before the first delivery
ROLES = ("精防医生", "责任医生", "审计", "药师", "收费员")
WEIGHTS = np.array([0.62, 0.3, 0.04, 0.02, 0.02])
ALLOWED = 3  # the first of the roles
TABLES = ("smi_visit", "smi_card", "smi_card、smi_visit")


def make_audit_events(visits: pa.Table, window: Window, rng: np.random.Generator) -> pa.Table:
    """``audit_event``: somebody opened the record around each visit; whoever must not was refused."""
    typed = to_days(visits["recorded_at"].cast(pa.date32()))
    recent = typed >= np.datetime64(window.history_end) - DAYS
    rows = visits.filter(pa.array(recent))
    size, day = rows.num_rows, typed[recent]
    at = day.astype("datetime64[s]") + rng.integers(8 * 60, 17 * 60, size) * np.timedelta64(60, "s")
    role = weighted(rng, WEIGHTS, size)
    return pa.table({
        "event_id": serial_ids("FW", np.arange(1, size + 1), 8), "happened_at": instants(at),
        "actor": pc.binary_join_element_wise(rows["doctor_id"].combine_chunks(), pick(["J", "", "S", "Y", "F"], role), ""),
        "actor_role": pick(ROLES, role), "action": same("view", size), "tables": pick(TABLES, rng.integers(0, 3, size)),
        "purpose": pick(["随访管理", "内部审计", "其他"], np.select([role < 2, role == 2], [0, 1], 2)),
        "result": pick(["ok", "refused"], (role >= ALLOWED).astype("int64")),
        "org_code": rows["org_code"].combine_chunks(), "deliver_on": days(window.deliver_on(day)),
        "resident": rows["resident"].combine_chunks(),
    })  # fmt: skip
