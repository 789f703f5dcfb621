"""A serving file with the tables that the wall reads and plausible numbers, for tests without the pipeline.

The columns are those that gold and ops publish; the registers (institutions, districts, products) are the real
seeds. `python tests/browser/fake_serving.py FOLDER [--closed]` publishes one by symlink, as publish does.
"""

import os
import sys
from datetime import date
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "dbt" / "seeds"
TABLES = Path(__file__).with_suffix(".sql")

_CLOSED = """
UPDATE ops.publication SET gate = 'closed', data_date = data_date - 1,
    reason_zh = '高血压随访记录 31.4% 被剔除，超过上限 20%', reason_en = '31.4% of hypertension visits excluded, limit 20%'
WHERE product = 'chronic_disease';
UPDATE ops.publication SET gate = 'closed', data_date = data_date - 1,
    reason_zh = '批次台账不平：received 512 ≠ loaded 480', reason_en = 'ledger out of balance' WHERE product = 'laboratory';
"""


def build(
    path: Path,
    *,
    data_date: date = date(2026, 11, 20),
    closed: bool = False,
    blackout: bool = False,
    quiet: bool = False,
) -> None:
    """Write a serving file: all gates open, or two closed, or all (`blackout`); `quiet` leaves alerts and referrals empty."""
    with duckdb.connect(str(path)) as con:
        con.execute(TABLES.read_text("utf-8").format(seeds=SEEDS, data_date=data_date))
        if closed:
            con.execute(_CLOSED)
        if blackout:
            con.execute(
                "UPDATE ops.publication SET gate = 'closed', reason_zh = '批次台账不平：收到 512 ≠ 入库 480'"
            )
        if quiet:
            con.execute("DELETE FROM gold.wall_alert; DELETE FROM gold.referral_flow")


def publish(link: Path, name: str, **state: bool) -> Path:
    """Build a new file beside `link` and swap the link to it; returns the new file."""
    link.parent.mkdir(parents=True, exist_ok=True)
    target = link.with_name(f"serving_{name}.duckdb")
    target.unlink(missing_ok=True)
    build(target, **state)
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.symlink_to(target.name)
    draft.replace(link)
    return target


if __name__ == "__main__":
    folder, *flags = sys.argv[1:]
    print(
        publish(
            Path(folder) / "serving.duckdb",
            "".join(flags).strip("-") or "open",
            closed="--closed" in flags,
            blackout="--blackout" in flags,
            quiet="--quiet" in flags,
        )
    )
