"""The fault log and the edits that faults make to the world's tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, to_days
from simulator.clinical.window import Window
from simulator.clinical.world import FEED_OF

KEYS = {
    "patient": ["patient_local_id"], "encounter": ["encounter_id"], "diagnosis": ["encounter_id", "seq"],
    "prescription_item": ["rx_no", "item_no"], "referral": ["referral_id"], "lab_report": ["report_id"],
    "lab_result": ["report_id", "seq"], "imaging_instance": ["sop_instance_uid"],
    "vital_reading": ["device_id", "seq", "metric_code", "device_at"], "device_binding": ["device_id", "valid_from"],
    "ph_archive": ["archive_id"], "htn_card": ["card_id"], "htn_visit": ["visit_id"], "dm_card": ["card_id"],
    "dm_visit": ["visit_id"], "ph_exam": ["exam_id"], "death_registry": ["death_id"],
    "birth_record": ["birth_record_id"], "newborn_visit": ["visit_id"], "child_card": ["card_id"], "child_visit": ["visit_id"],
    "vaccination_record": ["vaccination_id"], "preg_card": ["card_id"], "prenatal_visit": ["visit_id"],
    "delivery": ["delivery_id"], "postpartum_visit": ["visit_id"], "tcm_child": ["visit_id"], "tcm_elder": ["record_id"],
    "fd_contract": ["contract_id"], "fd_service": ["service_id"],
    "smi_card": ["card_id"], "smi_visit": ["visit_id"], "tb_notice": ["notice_id"], "tb_first_visit": ["visit_id"],
    "tb_visit": ["visit_id"], "tb_close": ["close_id"], "idr_card": ["card_id"], "copd_screen": ["screen_id"],
    "copd_card": ["card_id"], "copd_visit": ["visit_id"], "chronic_one_table": ["visit_id"],
    "ph_archive_disease": ["archive_id", "history_kind_code", "seq"], "audit_event": ["event_id"],
    "fee_item": ["fee_id"], "front_page": ["inpatient_id", "version_code"], "allergy": ["allergy_id"],
    "critical_value_event": ["event_id"], "qc_result": ["instrument_id", "item_code", "level_code", "run_at"],
    "imaging_report": ["exam_no"], "imaging_study": ["study_instance_uid"],
    "cold_chain_reading": ["sensor_id", "seq", "device_at"], "equipment_reading": ["asset_id", "meter_code", "device_at"],
    "stock_in": ["doc_no", "line_no"], "stock_out": ["doc_no", "line_no"],
    "stock_snapshot": ["snapshot_on", "store_code", "drug_code_local", "batch_no"],
    "drug_trace": ["trace_code", "event_code", "event_at"], "settlement": ["settlement_id"],
    "settlement_item": ["settlement_id", "seq"], "deduction": ["deduction_id"], "inpatient_encounter": ["inpatient_id"],
    "staff": ["staff_id"], "attachment": ["attachment_id", "table_name", "record_key"],
}  # fmt: skip

SCHEMA = pa.schema([
    ("data_date", pa.date32()), ("feed", pa.string()), ("table_name", pa.string()), ("org_code", pa.string()),
    ("record_key", pa.string()), ("rule_id", pa.string()), ("fault_kind", pa.string()), ("field", pa.string()),
    ("origin", pa.string()),
])  # fmt: skip


def record_keys(table: str, rows: pa.Table) -> pa.Array:
    """Contract key columns joined with `|`; instants as the platform prints them (UTC, ISO)."""
    parts = []
    for name in KEYS[table]:
        column = rows[name].combine_chunks() if isinstance(rows[name], pa.ChunkedArray) else rows[name]
        if pa.types.is_timestamp(column.type):
            utc = pc.subtract(column, pa.scalar(8 * 3600, pa.duration("s")))
            column = pc.strftime(utc, "%Y-%m-%dT%H:%M:%SZ")
        parts.append(column.cast(pa.string()))
    return pc.binary_join_element_wise(*parts, "|") if len(parts) > 1 else parts[0]


@dataclass
class World:
    """The tables while faults are put in, the log of what was done, and which archives are already touched.

    `touched[table]` holds archive ids: a person gets at most one fault per table, so that one never hides
    or causes another.
    """

    tables: dict[str, pa.Table]
    window: Window
    rng: np.random.Generator
    rates: dict[str, Any]
    log: list[pa.Table] = field(default_factory=list)
    touched: dict[str, set[str]] = field(default_factory=dict)

    def note(
        self, table: str, rows: np.ndarray, rule_id: str | None, fault_kind: str, fields: str, origin: str = "injected",
        data_date: date | None = None,
    ) -> None:  # fmt: skip
        """Log rows (indices into the table as it is now)."""
        chosen = self.tables[table].take(pa.array(rows))
        count = chosen.num_rows
        if not count:
            return
        delivered = (
            chosen["deliver_on"].combine_chunks()
            if data_date is None
            else pa.array([data_date] * count, pa.date32())
        )
        self.log.append(pa.table([
            delivered, *(pa.array([v] * count, pa.string()) for v in (FEED_OF[table], table)), chosen["org_code"].combine_chunks(),
            record_keys(table, chosen), *(pa.array([v] * count, pa.string()) for v in (rule_id, fault_kind, fields, origin)),
        ], schema=SCHEMA))  # fmt: skip

    def note_text(
        self, data_date: date, table: str, org: str, key: str, fault_kind: str, fields: str
    ) -> None:
        """Log one record that exists only as damaged text."""
        values = [data_date, FEED_OF[table], table, org, key, None, fault_kind, fields, "injected"]
        self.log.append(
            pa.table([pa.array([v], f.type) for v, f in zip(values, SCHEMA, strict=True)], schema=SCHEMA)
        )

    def note_group(
        self, table: str, org: str, key: str, rule_id: str, fields: str, origin: str = "injected",
        data_date: date | None = None,
    ) -> None:  # fmt: skip
        """Log one row of a table that exists for the check only (an institution's quarter, a doctor's day)."""
        on = data_date or self.window.history_end
        values = [on, "public_health", table, org, key, rule_id, "rule", fields, origin]
        self.log.append(
            pa.table([pa.array([v], f.type) for v, f in zip(values, SCHEMA, strict=True)], schema=SCHEMA)
        )

    def put(self, table: str, rows: np.ndarray, **values: Any) -> None:
        """Overwrite cells. `rows` ascending; a value is a scalar, a list, or an Arrow array in row order."""
        target = self.tables[table]
        mask = np.zeros(target.num_rows, dtype=bool)
        mask[rows] = True
        for name, value in values.items():
            kind = target.schema.field(name).type
            if not isinstance(value, pa.Array):
                value = pa.array(
                    list(value) if isinstance(value, (list, np.ndarray)) else [value] * len(rows), kind
                )
            column = pc.replace_with_mask(target[name].combine_chunks(), pa.array(mask), value.cast(kind))
            target = target.set_column(target.schema.get_field_index(name), name, column)
        self.tables[table] = target

    def add(self, table: str, rows: pa.Table) -> np.ndarray:
        """Append rows; returns their indices."""
        before = self.tables[table].num_rows
        self.tables[table] = pa.concat_tables(
            [self.tables[table], rows.cast(self.tables[table].schema)]
        ).combine_chunks()
        return np.arange(before, before + rows.num_rows)

    def drop(self, table: str, rows: np.ndarray) -> None:
        keep = np.ones(self.tables[table].num_rows, dtype=bool)
        keep[rows] = False
        self.tables[table] = self.tables[table].filter(pa.array(keep)).combine_chunks()

    def choose(self, table: str, rule_id: str, candidates: np.ndarray) -> np.ndarray:
        """A share of the candidate rows (profile: `faults.rules`), at most one per untouched archive, ascending."""
        share = float(self.rates["rules"].get(rule_id, self.rates["rule_default"]))
        rows = np.flatnonzero(candidates) if candidates.dtype == bool else candidates
        if not len(rows) or share <= 0:
            return np.zeros(0, dtype="int64")
        wanted = max(round(share * len(rows)), 1)
        ids = self.tables[table]["archive_id"].to_pylist()
        taken, out = self.touched.setdefault(table, set()), []
        for row in self.rng.permutation(rows).tolist():  # stops after the few that are wanted
            if ids[row] not in taken:
                taken.add(ids[row])
                out.append(row)
                if len(out) == wanted:
                    break
        return np.sort(np.array(out, dtype="int64"))

    def array(self, table: str, column: str) -> np.ndarray:
        """Column as numpy: dates as datetime64[D], numbers with NaN, text as objects."""
        data = self.tables[table][column]
        if pa.types.is_date(data.type):
            return to_days(data)
        if pa.types.is_string(data.type):
            return np.asarray(data.to_pylist(), dtype=object)
        return data.to_numpy()

    def truth(self) -> pa.Table:
        return pa.concat_tables(self.log) if self.log else SCHEMA.empty_table()

    @property
    def end(self) -> np.datetime64:
        return np.datetime64(self.window.end)


def shifted(values: np.ndarray, by: int) -> pa.Array:
    """Days moved by `by`."""
    return days(values + np.timedelta64(by, "D"))
