"""The model file: version, parameters and thresholds come and go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from empi import guards, model
from lake.errors import MedlakeError

PACKAGED: dict[str, Any] = json.loads(model.PACKAGED.read_text("utf-8"))


def put(home: Path, **changed: Any) -> None:
    """A model trained here; ``None`` takes a part out."""
    (home / "models").mkdir(parents=True, exist_ok=True)
    content = {k: v for k, v in (PACKAGED | changed).items() if v is not None}
    (home / "models" / "empi.json").write_text(json.dumps(content), "utf-8")


def test_the_package_comes_with_one(lake_home: Path) -> None:
    assert model.version() == PACKAGED["version"]
    assert model.thresholds() == PACKAGED["thresholds"]
    assert tuple(model.thresholds()) == model.THRESHOLDS


def test_a_file_changes_what_is_accepted_at_once(lake_home: Path) -> None:
    before = guards.accept_sql()
    put(lake_home, version="stricter", thresholds=PACKAGED["thresholds"] | {"accept": 7.5})
    assert (model.version(), model.thresholds()["accept"]) == ("stricter", 7.5)
    assert "7.5" in guards.accept_sql() != before


def test_one_of_an_older_release_takes_the_package_thresholds(lake_home: Path) -> None:
    put(lake_home, thresholds=None)
    assert model.thresholds() == PACKAGED["thresholds"]


@pytest.mark.parametrize(
    "wrong", [{"accept": -6.0}, {"review": -9.0}, {"review_guarded": -5.5}, {"keep": "many"}], ids=str
)
def test_thresholds_out_of_order_are_refused(lake_home: Path, wrong: dict[str, Any]) -> None:
    put(lake_home, thresholds=PACKAGED["thresholds"] | wrong)
    with pytest.raises(MedlakeError) as caught:
        model.thresholds()
    assert caught.value.code == "E302"
    assert model.kept_thresholds() == PACKAGED["thresholds"], "training anew mends it"


def test_a_model_of_other_levels_is_refused(lake_home: Path) -> None:
    """Guards count levels: a model with one level less would make 张三's twin his double."""
    splink = json.loads(json.dumps(PACKAGED["splink"]))
    del splink["comparisons"][1]["comparison_levels"][4]
    put(lake_home, splink=splink)
    with pytest.raises(MedlakeError) as caught:
        model.load(100)
    assert caught.value.code == "E302"
    assert "name" in str(caught.value)


def test_loading_leaves_the_file_s_parameters_as_they_are(lake_home: Path) -> None:
    large = model.load(9_000_000)["probability_two_random_records_match"]
    small = model.load(1_000_000)["probability_two_random_records_match"]
    assert small == pytest.approx(9 * large)
