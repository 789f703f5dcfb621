"""Referrals between the institutions: up from the centres and hospitals, back down to the centres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical.catalogue import catalogue
from simulator.clinical.draw import NO_DAY, days, instants, pick, serial_ids, stream
from simulator.clinical.encounters import Encounters
from simulator.clinical.window import Window

LEAD = "H001"


def make_referrals(
    enc: Encounters,
    parents: Mapping[str, str],
    centre_of: list[str],
    window: Window,
    rates: Mapping[str, Any],
    seed: int,
) -> pa.Table:
    """`parents`: institution -> its hospital; `centre_of`: home centre per resident.

    A referral that is answered in a later delivery comes twice: as requested, then with its outcome.
    """
    rng = stream(seed, "referral")
    size = len(enc.who)
    chronic = enc.condition >= min(catalogue().chronic_at.values())
    up = np.select(
        [enc.level == 1, enc.level == 2], [rates["referred_up"], rates["referred_up"] * 0.5], 0.0
    ) * np.where(chronic, 1.6, 1.0)
    down = np.where((enc.level >= 2) & (chronic | (enc.klass == 2)), rates["referred_down"], 0.0)
    draw = rng.random(size)
    row = np.flatnonzero(draw < up + down)
    goes_up = draw[row] < up[row]
    from_org = enc.org[row]
    skip = rng.random(len(row)) < 0.4  # straight to the lead hospital
    hospital = np.array([parents.get(code, LEAD) for code in from_org.tolist()], dtype=object)
    to_org = np.where(
        goes_up, np.where(skip, LEAD, hospital), np.asarray(centre_of, dtype=object)[enc.who[row]]
    )
    applied = np.minimum(enc.start[row] + np.timedelta64(1200, "s"), enc.end[row] + np.timedelta64(600, "s"))
    applied = np.where(goes_up, applied, enc.end[row])
    answered = applied + rng.integers(3600, 3 * 86400, len(row)).astype("timedelta64[s]")
    outcome = np.searchsorted(np.cumsum([0.12, 0.8]), rng.random(len(row)), side="right")
    order = np.lexsort((row, applied))
    row, goes_up, from_org, to_org = row[order], goes_up[order], from_org[order], to_org[order]
    applied, answered, outcome = applied[order], answered[order], outcome[order]
    ids = serial_ids("ZZ", np.arange(1, len(row) + 1), 8)
    cat = catalogue()
    local_id = enc.patient_local_id.take(pa.array(row))

    def version(at: np.ndarray, known: np.ndarray, finished: bool) -> pa.Table:
        status = outcome[at] if finished else np.full(len(at), 3)
        accepted = np.where((status <= 1), answered[at], NO_DAY.astype("datetime64[s]"))
        return pa.table({
            "referral_id": ids.take(pa.array(at)), "direction_code": pick(["down", "up"], goes_up[at].astype("int64")),
            "from_org_code": pa.array(from_org[at].tolist(), pa.string()),
            "to_org_code": pa.array(to_org[at].tolist(), pa.string()),
            "patient_local_id": local_id.take(pa.array(at)), "icd10_code": pick(cat.icd10, enc.condition[row[at]]),
            "applied_at": instants(applied[at]), "accepted_at": instants(accepted),
            "status_code": pick(["accepted", "completed", "rejected", "requested"], status),
            "org_code": pa.array(from_org[at].tolist(), pa.string()), "deliver_on": days(window.deliver_on(known)),
            "resident": pa.array(enc.who[row[at]]),
        })  # fmt: skip

    same = window.deliver_on(answered) == window.deliver_on(applied)
    now, split = np.flatnonzero(same), np.flatnonzero(~same)
    return pa.concat_tables(
        [
            version(now, answered[now], True),
            version(split, applied[split], False),
            version(split, answered[split], True),
        ]
    )
