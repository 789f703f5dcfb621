"""The Splink model: six comparisons over standardised columns, and the rules that propose pairs.

Levels are ordered from the strongest agreement down and are plain SQL over columns of ``record``; all that is
costly or Chinese (sound, look, address parts, checksum) is a column already. The parameters are in ``models/``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake.errors import MedlakeError
from lake.settings import settings

if TYPE_CHECKING:
    from splink import SettingsCreator

PACKAGED = Path(__file__).parent / "models" / "registration.json"

#: Below this many records a set is taken for a sample: it says little on how common a name or a match is.
SMALL_POPULATION = 20_000

#: Comparison -> its levels from the top, null level left out: what ``gamma_<name>`` counts down from.
LEVELS: dict[str, tuple[tuple[str, str], ...]] = {
    "idno": (
        ("trusted", "idno_l = idno_r AND id_own_l AND id_own_r"),
        ("same_valid", "idno_l = idno_r AND id_valid_l"),
        ("typo", "NOT (id_valid_l AND id_valid_r) AND damerau_levenshtein(idno_l, idno_r) <= 2"),
        ("two_trusted", "id_own_l AND id_own_r"),
    ),
    "name": (
        ("exact", "nm_l = nm_r"),
        ("sound", "name_py_l = name_py_r"),
        (
            "shape",
            "sn_l = sn_r AND length(nm_l) = length(nm_r) AND (name_shape_l = name_shape_r "
            "OR nm_l LIKE replace(nm_r, '*', '_') OR nm_r LIKE replace(nm_l, '*', '_'))",
        ),
        # another surname before the same given name: one that looks alike, a slip, a child that took the other parent's
        ("other_surname", "length(nm_l) > 1 AND substr(nm_l, 2) = substr(nm_r, 2)"),
        (
            # given names swapped, or one of two lost; by place, since DuckDB's edit distances count bytes, and a
            # Chinese character has three
            "swapped_or_lost",
            "sn_py_l = sn_py_r AND greatest(length(nm_l), length(nm_r)) > 2 AND "
            "(substr(name_py_l, 2) = reverse(substr(name_py_r, 2)) OR (length(nm_l) <> length(nm_r) AND "
            "(right(name_py_l, 1) = right(name_py_r, 1) OR substr(name_py_l, 2, 1) = substr(name_py_r, 2, 1))))",
        ),
        (
            # one of two given characters agrees where it stands: a slip, or brothers of one generation
            "one_character",
            "sn_py_l = sn_py_r AND length(nm_l) = length(nm_r) AND length(nm_l) > 2 AND "
            "(right(name_py_l, 1) = right(name_py_r, 1) OR substr(name_py_l, 2, 1) = substr(name_py_r, 2, 1))",
        ),
        ("surname", "sn_py_l = sn_py_r"),
    ),
    "dob": (
        ("exact", "dob_l = dob_r"),
        (
            "year_only",
            "left(dob_l, 4) = left(dob_r, 4) AND (right(dob_l, 4) = '0101' OR right(dob_r, 4) = '0101')",
        ),
        ("lunar", "abs(dob_day_l - dob_day_r) BETWEEN 17 AND 51"),
        ("one_edit", "damerau_levenshtein(dob_l, dob_r) <= 1"),
        ("near_year", "abs(dob_day_l - dob_day_r) <= 366"),
    ),
    "sex": (("same", "sex_l = sex_r"),),
    # phone and home are one comparison: relatives share both, so two comparisons would count a family twice
    "home": (
        ("phone_village", "phone_l = phone_r AND town_l = town_r AND village_l = village_r"),
        ("phone", "phone_l = phone_r"),
        ("house", "village_l = village_r AND house_l = house_r AND coalesce(town_l = town_r, true)"),
        ("phone_edit", "levenshtein(phone_l, phone_r) <= 1"),
        ("contact", "phone_l = kin_phone_r OR kin_phone_l = phone_r OR kin_phone_l = kin_phone_r"),
        ("village", "town_l = town_r AND village_l = village_r"),
        ("town", "town_l = town_r"),
    ),
    "card": (("same", "card_l = card_r OR insurance_l = insurance_r"),),
}
NULLS = {
    "idno": "idno_l IS NULL OR idno_r IS NULL",
    "name": "nm_l IS NULL OR nm_r IS NULL",
    # a birth date that was read from the id says nothing new about a pair of that id
    "dob": "dob_l IS NULL OR dob_r IS NULL OR (idno_l = idno_r AND (dob_from_id_l OR dob_from_id_r))",
    "sex": "sex_l IS NULL OR sex_r IS NULL",
    "home": "(phone_l IS NULL OR phone_r IS NULL) AND (town_l IS NULL OR town_r IS NULL) "
    "AND (village_l IS NULL OR village_r IS NULL OR village_l <> village_r) "
    "AND NOT coalesce(phone_l = kin_phone_r OR kin_phone_l = phone_r OR kin_phone_l = kin_phone_r, false)",
    "card": "(card_l IS NULL OR card_r IS NULL) AND (insurance_l IS NULL OR insurance_r IS NULL)",
}
#: Levels whose weight depends on how common the value is (张伟, a phone that several share).
FREQUENCY = {("name", "exact"): "nm", ("home", "phone"): "phone"}

#: Columns that no comparison reads and guards do, as ``<column>_l`` and ``<column>_r``.
RETAINED = ("is_minor",)

#: A pair is a candidate if it agrees on one of these.
BLOCKING: tuple[tuple[str, ...], ...] = (
    ("idno",),
    ("name_py", "dob"),
    ("card",),
    ("insurance",),
    ("name_py", "phone"),
    ("nm", "town", "village"),
    ("name_py", "town", "village", "left(dob, 4)"),
    ("dob", "phone"),
    ("dob", "town", "village", "sn_py"),
    ("sn_py", "dob", "town"),
    ("name_shape", "left(dob, 6)", "town"),
    ("phone", "sn_py", "sex"),
    ("dob", "village", "house"),
    ("kin_nm", "dob"),
    ("kin_phone", "dob"),
    ("kin_nm", "phone"),
    ("name_py", "kin_phone"),
)


def gamma_sql(comparison: str, written: Callable[[str], str] = str) -> str:
    """SQL that says at which level a pair of rows (columns ``<column>_l`` and ``_r``) agrees, as Splink counts levels.

    ``written``: how another engine has a condition.
    """
    rungs = LEVELS[comparison]
    cases = " ".join(f"WHEN {written(sql)} THEN {len(rungs) - place}" for place, (_, sql) in enumerate(rungs))
    return f"CASE WHEN {written(NULLS[comparison])} THEN -1 {cases} ELSE 0 END AS gamma_{comparison}"


def gamma(comparison: str, level: str) -> int:
    """The value of ``gamma_<comparison>`` at a level; ``else`` is 0, null is -1."""
    if level == "else":
        return 0
    names = [name for name, _ in LEVELS[comparison]]
    return len(names) - names.index(level)


def chance_agreement(trained: dict[str, Any], comparison: str, level: str) -> float:
    """How often two records of different persons agree at a level (Fellegi and Sunter's u)."""
    levels = next(c for c in trained["comparisons"] if c["output_column_name"] == comparison)[
        "comparison_levels"
    ]
    return float(next(at for at in levels if at["label_for_charts"] == level)["u_probability"])


def _comparison(name: str) -> Any:
    from splink import comparison_level_library as levels
    from splink import comparison_library as comparisons

    made: list[Any] = [levels.CustomLevel(NULLS[name], "null").configure(is_null_level=True)]
    for label, sql in LEVELS[name]:
        level = levels.CustomLevel(sql, label)
        column = FREQUENCY.get((name, label))
        made.append(level.configure(tf_adjustment_column=column) if column else level)
    made.append(levels.ElseLevel())
    return comparisons.CustomComparison(made, output_column_name=name, comparison_description=name)


def untrained() -> SettingsCreator:
    """Splink's settings without parameters."""
    from splink import SettingsCreator, block_on

    return SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="rec_no",
        comparisons=[_comparison(name) for name in LEVELS],
        blocking_rules_to_generate_predictions=[block_on(*rule) for rule in BLOCKING],
        additional_columns_to_retain=list(RETAINED),
        retain_matching_columns=True,  # Splink 5 puts out gamma_* only with this
        retain_intermediate_calculation_columns=False,
        em_convergence=1e-4,
        max_iterations=25,
    )


def path() -> Path:
    """The model in force: the one trained here, else the one that comes with the package."""
    own = settings().home / "models" / "empi.json"
    return own if own.exists() else PACKAGED


#: The weights (log2 of the odds, bits) that come with a model:
#: ``keep``, below it nobody will want to see a pair; ``review``, from here on a pair that was not accepted is shown to
#: a person, and from ``review_guarded`` on one that a guard holds; ``accept``, a pair is accepted unless a guard holds it.
THRESHOLDS = ("keep", "review", "review_guarded", "accept")


@lru_cache(maxsize=4)
def _read(source: Path, changed_ns: int) -> dict[str, Any]:
    """A model file's content; ``changed_ns`` is its time of change, so that a new one is read anew."""
    content: dict[str, Any] = json.loads(source.read_text("utf-8"))
    named = content.get("thresholds")
    if named is None:  # trained by an older release: those that the release came with
        named = json.loads(PACKAGED.read_text("utf-8"))["thresholds"]
    found = {name: float(named[name]) for name in THRESHOLDS}
    if not found["keep"] <= found["review"] <= found["accept"] or found["review_guarded"] < found["keep"]:
        raise ValueError("thresholds")
    content["thresholds"] = found
    return content


def content() -> dict[str, Any]:
    """The model in force: ``version``, ``trained_on`` (records), ``thresholds``, ``splink``. Not to be changed.

    Raises:
        MedlakeError: E302, the file is missing or is not such a model.
    """
    source = path()
    try:
        return _read(source, source.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MedlakeError("E302", place=source.name, detail=type(error).__name__) from error


def version() -> str:
    """Name of the model in force."""
    return str(content().get("version", ""))


def thresholds() -> dict[str, float]:
    """The model's :data:`THRESHOLDS` by name, in bits."""
    return dict(content()["thresholds"])


def kept_thresholds() -> dict[str, float]:
    """The thresholds that a newly trained model takes over: those in force, or of the package if that file is broken."""
    try:
        return thresholds()
    except MedlakeError:
        return dict(_read(PACKAGED, PACKAGED.stat().st_mtime_ns)["thresholds"])


def load(records: int) -> dict[str, Any]:
    """A trained model, its prior scaled to the number of records to link.

    True pairs grow with the number of records and candidate pairs with its square, so the prior odds of a
    sample of n records hold for N records after a factor n/N. A handful of records is a sample of a city and no
    village of its own, so N counts at least ``SMALL_POPULATION``.

    Raises:
        MedlakeError: E302, the file is missing, is not such a model, or was trained on other levels.
    """
    read, place = content(), path().name
    try:
        trained = int(read["trained_on"])
        found: dict[str, Any] = copy.deepcopy(read["splink"])
        levels = {
            c["output_column_name"]: [at["label_for_charts"] for at in c["comparison_levels"]][1:-1]
            for c in found["comparisons"]
        }
        prior = float(found["probability_two_random_records_match"])
    except (ValueError, KeyError, TypeError) as error:
        raise MedlakeError("E302", place=place, detail=type(error).__name__) from error
    others = [n for n in {**levels, **LEVELS} if levels.get(n) != [label for label, _ in LEVELS.get(n, ())]]
    if others:
        raise MedlakeError("E302", place=place, detail=f"comparisons {', '.join(others)}")
    found["probability_two_random_records_match"] = min(prior * trained / max(records, SMALL_POPULATION), 0.5)
    return found
