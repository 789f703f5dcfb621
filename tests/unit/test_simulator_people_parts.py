"""Small parts of the population simulator: draws, text matrices, id numbers, the lunar calendar."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from lake.errors import MedlakeError
from simulator.people import make_city
from simulator.people.draw import Draw
from simulator.people.id_errors import WIDTH, type_ids
from simulator.people.identity import calendar, check_digit, id_numbers, serial_numbers
from simulator.people.lunar import lunar_as_solar
from simulator.people.name_errors import clean_names, homophones, look_alikes
from simulator.people.naming import given_names, name_lists
from simulator.people.text import digits, matrix, to_arrow, to_full_width
from simulator.profile import Profile


def _days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]").astype(np.int64)


def _text(codes: np.ndarray) -> list[str]:
    return [str(v) for v in to_arrow(codes).to_pylist()]


def test_draw_depends_on_seed_topic_and_index_alone() -> None:
    every = np.arange(10_000)
    whole = Draw(1).uniform("x", every)
    assert np.array_equal(whole[7000:7010], Draw(1).uniform("x", np.arange(7000, 7010)))
    for other in (
        Draw(2).uniform("x", every),
        Draw(1).uniform("y", every),
        Draw(1).uniform("x", every + 1)[:-1],
    ):
        assert abs(np.corrcoef(whole[: len(other)], other)[0, 1]) < 0.05


def test_draws_are_uniform_and_weighted_as_asked() -> None:
    every = np.arange(200_000)
    counts = np.histogram(Draw(3).uniform("u", every), bins=20, range=(0, 1))[0]
    assert np.abs(counts - 10_000).max() < 600  # six standard deviations
    shares = np.bincount(Draw(3).weighted("w", every, np.array([1.0, 2.0, 7.0]))) / len(every)
    assert np.allclose(shares, [0.1, 0.2, 0.7], atol=0.006)
    normal = Draw(3).normal("n", every)
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02


def test_text_matrix_skips_zeros_anywhere() -> None:
    codes = matrix(["王明", "李 Ａé", ""], 6)
    codes[0] = [0, ord("王"), 0, ord("*"), 0, ord("明")]
    assert _text(codes) == ["王*明", "李 Ａé", ""]
    assert _text(matrix(["12X", ""], 5)) == ["12X", ""]
    assert to_arrow(codes, np.array([False, True, False])).to_pylist() == ["王*明", None, ""]
    assert to_arrow(np.zeros((0, 3), dtype=np.uint32)).type == pa.string()
    assert _text(to_full_width(matrix(["1x"]))) == ["１ｘ"]
    assert _text(digits(np.array([7, 120]), 4)) == ["0007", "0120"]


def test_check_character_of_published_examples() -> None:
    # GB 11643-1999, annex: 11010519491231002X and 440524188001010014
    assert _text(check_digit(matrix(["11010519491231002", "44052418800101001"]))[:, None]) == ["X", "4"]


def test_id_number_holds_county_birth_date_and_sex() -> None:
    born = _days("1964-02-29", "2001-12-31")
    ids = _text(id_numbers(np.array([429701, 500101]), born, np.array([12, 7])))
    assert [i[:17] for i in ids] == ["42970119640229012", "50010120011231007"]
    assert calendar(_days("1949-10-01", "1970-01-01")).tolist() == [19491001, 19700101]


def test_twins_get_neighbouring_numbers_and_too_many_births_raise() -> None:
    born = np.full(4, 8000)
    female = np.array([True, True, False, False])
    serial = serial_numbers(np.zeros(4, dtype=np.int64), born, female, np.array([1, 0, -1, -1]))
    assert abs(serial[0] - serial[1]) == 2
    assert (serial % 2 == [0, 0, 1, 1]).all() and len(set(serial.tolist())) == 4
    many = np.zeros(251, dtype=np.int64)
    with pytest.raises(MedlakeError, match="251") as raised:
        serial_numbers(many, many, many == 1, many - 1)
    assert raised.value.code == "E805"


def test_a_city_needs_somebody() -> None:
    with pytest.raises(MedlakeError) as raised:
        make_city(residents=0)
    assert raised.value.code == "E806"
    assert make_city(residents=1).residents.num_rows == 1


def test_lunar_birthdays() -> None:
    # New year 2023-01-22; second leap month of 2023 began on 2023-03-22; new year 1966-01-21.
    assert (
        lunar_as_solar(_days("2023-01-22", "2023-03-25", "1966-02-25")).tolist()
        == _days("2023-01-01", "2023-02-04", "1966-02-06").tolist()
    )
    days = np.arange(*_days("1920-01-01", "2026-12-31"))
    back = days - lunar_as_solar(days)
    assert (back.min(), back.max()) == (19, 55)


def test_confusions_keep_the_sound_or_the_shape() -> None:
    from pypinyin import lazy_pinyin

    names = np.concatenate([name_lists().rare, name_lists().surnames[:, 0]])
    u = Draw(5).uniform("c", np.arange(len(names)))
    heard = homophones().replace(names, u)
    assert (heard != names).mean() > 0.8
    assert all(
        lazy_pinyin(chr(a)) == lazy_pinyin(chr(b))
        for a, b in zip(names.tolist(), heard.tolist(), strict=True)
    )
    assert look_alikes().replace(matrix(["未王龘"])[0], np.array([0.1, 0.1, 0.1])).tolist()[2] == ord("龘")
    assert chr(look_alikes().replace(matrix(["未"])[0], np.array([0.0]))[0]) == "末"


def test_given_names_follow_sex_and_year() -> None:
    every = np.arange(40_000)
    old_women = _text(given_names(Draw(9), "g", every, np.full(40_000, 1945), np.ones(40_000, dtype=bool)))
    young_men = _text(given_names(Draw(9), "g", every, np.full(40_000, 2015), np.zeros(40_000, dtype=bool)))
    assert sum("秀" in n for n in old_women) > 20 * max(1, sum("秀" in n for n in young_men))
    assert sum("宸" in n for n in young_men) > 20 * max(1, sum("宸" in n for n in old_women))
    assert {len(n) for n in young_men} == {1, 2}
    assert len(set(young_men)) > 4_000


def test_every_kind_of_id_error_looks_like_itself() -> None:
    kinds = np.array([-1, 2, 3, 4, 5, 6, 7])
    rates = Profile.load().people.id_errors.model_copy(
        update={"blanks": 0.0, "full_width": 0.0, "lower_x": 1.0}
    )
    true = matrix(["42970119640229012X"] * len(kinds))
    typed = type_ids(Draw(1), rates, np.arange(len(kinds)), true, kinds)
    right, filler, fifteen, swapped, wrong, lost, masked = _text(typed)
    assert typed.shape[1] == WIDTH
    assert right == "42970119640229012x" and filler != right
    assert fifteen == "429701640229012" and masked == "4297011964****012x"
    assert sorted(swapped) == sorted(right) and swapped != right
    assert sum(a != b for a, b in zip(wrong, right, strict=True)) == 1
    assert len(lost) == 17


def test_names_of_two_characters_and_double_surnames() -> None:
    share = name_lists().surname_share
    double = int(np.flatnonzero(name_lists().surnames[:, 1])[0])
    given = matrix(["明", "小红"], 2)
    assert [len(t) for t in _text(clean_names(np.array([0, double]), given))] == [2, 4]
    assert share.argmax() == 0 and 6.5 < share[0] / share.sum() * 100 < 8


def test_profile_refuses_unknown_keys_and_impossible_rates() -> None:
    profile = Profile.load()
    given = profile.model_dump()
    given["people"]["id_errors"]["missing_his"] = 0.99
    with pytest.raises(ValidationError, match="more than 1"):
        Profile.model_validate(given)
    given = profile.model_dump()
    given["people"]["name_errors"]["homofone"] = 0.1
    with pytest.raises(ValidationError, match="homofone"):
        Profile.model_validate(given)
    with pytest.raises(FileNotFoundError):
        Profile.load("no-such-profile")


def test_error_rates_are_not_below_those_of_the_study() -> None:
    """The committed profile may get harder, never easier, than the error model it was taken from."""
    people = Profile.load().people
    names, ids = people.name_errors, people.id_errors
    assert names.homophone + names.lookalike + names.swapped + names.lost + names.masked >= 0.028
    own_id_unusable = (
        ids.relative
        + ids.placeholder
        + ids.swapped
        + ids.wrong_digit
        + ids.lost
        + ids.masked
        + ids.borrowed_card
    )
    assert ids.relative >= 0.003 and own_id_unusable + ids.missing_his >= 0.10
    assert people.registering.unknown_patient >= 0.0015
