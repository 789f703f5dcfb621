"""What the room ``empi`` reads of an item's fate in the tables between is what the worklist's own item says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import worklist
from empi.review import history
from lake import ops, work
from lake.errors import MedlakeError
from tests.worklist_world import NOW, home

ACTIONS = ["take", "take", *sorted({t.action for t in worklist.kinds()["empi_review"].transitions})]
KEY = "empi_review|1"


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(["王", "李"])), max_size=14))
@hypothesis_settings(max_examples=15, deadline=None)
def test_any_sequence_of_people_and_engine(steps: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder, home(Path(folder) / "var"):
        work.ask([work.Request(KEY, "empi_review", "H001", "warn", "match_candidate/1", NOW, "empi")])
        worklist.take_requests()
        (item,) = worklist.items()
        waits = False  # a settlement that worklist has not taken yet
        for number, (action, actor) in enumerate(steps):
            if action in ("settle", "ask_again"):
                said = work.Settlement(KEY, action, f"run{number}", "x", NOW, "empi")
                work.settle([said])
                waits = True
            elif action == "take":
                worklist.take_requests()
                waits = False
            else:
                try:
                    worklist.act(
                        item.item_id,
                        action,
                        actor=actor,
                        role="empi_steward",
                        reason="x",
                        data={"info_text": "x"},
                    )
                except MedlakeError:
                    pass  # refused: not in this state, or by the same person
            now = worklist.find(item.item_id)[0]
            (seen,) = history.asked()
            assert waits or (seen.state, seen.is_open) == (now.state, now.is_open)
        worklist.take_requests()
        assert history.waiting(history.asked()) == ({"H001": 1} if now_open(item.item_id) else {})
        assert history.on_day(history.asked(), NOW) == {"H001": 1}
        assert history.on_day(history.asked(), NOW + timedelta(days=1)) == {}
        ops.engine().dispose()


def now_open(item_id: str) -> bool:
    return worklist.find(item_id)[0].is_open
