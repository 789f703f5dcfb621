"""What must hold in every simulated city: ids, families, registers, and errors at the committed rates."""

from __future__ import annotations

from collections import Counter
from datetime import date

import duckdb
import pyarrow as pa
import pytest

from simulator.people import City, make_city
from simulator.profile import Profile

RESIDENTS = 40_000
AS_OF = date(2026, 11, 20)


@pytest.fixture(scope="module")
def city() -> City:
    return make_city(Profile.load(), RESIDENTS, 20261122, AS_OF)


@pytest.fixture(scope="module")
def con(city: City) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.register("resident", city.residents)
    connection.register("registration", city.registrations)
    connection.register("updated", city.updates)
    connection.execute(
        """CREATE TABLE j AS SELECT g.*, g.source_system = 'public_health' AS archive,
             r.name AS true_name, r.id_no AS true_id, r.birth_date AS born, r.sex_code AS true_sex, r.family_role,
             r.death_date, r.mother_resident_id, m.id_no AS mother_id, f.id_no AS father_id,
             date_diff('day', r.birth_date, g.registered_on) / 365.2425 AS age_then,
             date_diff('day', r.birth_date, DATE '2026-11-20') / 365.2425 AS age,
             date_diff('day', r.birth_date, g.source_updated_at::DATE) <= 40 AND g.source_system <> 'public_health' AS baby,
             upper(translate(regexp_replace(g.id_no, '[\\s\u3000]', '', 'g'),
               '０１２３４５６７８９ｘＸ＊', '0123456789xX*')) AS id_clean,
             regexp_replace(g.name, '[\\s\u3000·]', '', 'g') AS name_clean
           FROM registration AS g JOIN resident AS r USING (resident_id)
           LEFT JOIN resident AS m ON m.resident_id = r.mother_resident_id
           LEFT JOIN resident AS f ON f.resident_id = r.father_resident_id"""
    )
    return connection


def one(con: duckdb.DuckDBPyConnection, sql: str) -> float:
    return float(con.execute(sql).fetchall()[0][0] or 0)


def share(con: duckdb.DuckDBPyConnection, what: str, of: str) -> tuple[float, int]:
    rows = con.execute(f"SELECT count(*) FILTER (WHERE {what}), count(*) FROM j WHERE {of}").fetchall()[0]
    return rows[0] / rows[1], rows[1]


def gb11643_ok(number: str) -> bool:
    """The standard's own words, one number at a time."""
    if len(number) != 18 or not number[:17].isdigit():
        return False
    total = sum(int(d) * pow(2, 17 - i, 11) for i, d in enumerate(number[:17]))
    return (12 - total) % 11 == (10 if number[17] == "X" else int(number[17]))


def test_true_ids_are_valid_unique_and_agree_with_birth_date_and_sex(city: City) -> None:
    rows = city.residents.select(["id_no", "birth_date", "sex_code"]).to_pylist()
    assert len({r["id_no"] for r in rows}) == len(rows) == RESIDENTS
    for r in rows:
        number = r["id_no"]
        assert gb11643_ok(number), "a true id fails its check character"
        assert number[6:14] == r["birth_date"].strftime("%Y%m%d")
        assert int(number[16]) % 2 == (1 if r["sex_code"] == "1" else 0)


def test_same_arguments_same_city_and_another_seed_another_city() -> None:
    first, again, other = (make_city(Profile.load(), 2_000, seed, AS_OF) for seed in (7, 7, 8))
    for name in ("residents", "registrations", "updates"):
        assert getattr(first, name).equals(getattr(again, name)), name
    assert not first.residents["name"].equals(other.residents["name"])


def test_age_pyramid_has_no_pile_of_one_birthday(con: duckdb.DuckDBPyConnection) -> None:
    old = one(
        con,
        "SELECT avg((date_diff('day', birth_date, DATE '2026-11-20') / 365.2425 >= 65)::INT) FROM resident",
    )
    assert 0.138 < old < 0.152
    assert one(con, "SELECT max(n) FROM (SELECT count(*) AS n FROM resident GROUP BY birth_date)") <= 15
    assert one(con, "SELECT count(*) FROM resident WHERE birth_date > DATE '2026-11-20'") == 0
    assert (
        0.005 * RESIDENTS
        < one(con, "SELECT count(*) FROM resident WHERE death_date IS NOT NULL")
        < 0.04 * RESIDENTS
    )


def test_families_hang_together(con: duckdb.DuckDBPyConnection) -> None:
    assert one(con, "SELECT count(*) FROM resident WHERE household_id IS NULL OR family_role IS NULL") == 0
    is_head = "family_role IN ('head', 'stranger')"
    households = f"SELECT household_id, count(*) FILTER (WHERE {is_head}) AS heads FROM resident GROUP BY 1"
    assert one(con, f"SELECT count(*) FROM ({households}) WHERE heads <> 1") == 0
    apart = "SELECT count(*) FROM (SELECT count(DISTINCT station_code) AS n FROM resident GROUP BY household_id) WHERE n > 1"
    assert one(con, apart) == 0
    gap = (
        "FROM resident AS c JOIN resident AS m ON m.resident_id = c.mother_resident_id "
        "WHERE date_diff('day', m.birth_date, c.birth_date) / 365.2425"
    )
    assert one(con, f"SELECT count(*) {gap} > 0") > 0.25 * RESIDENTS
    assert one(con, f"SELECT count(*) {gap} < 16 OR m.sex_code <> '2'") == 0
    small = "FROM resident WHERE date_diff('day', birth_date, DATE '2026-11-20') < 365 * 14"
    assert one(con, f"SELECT count(*) {small} AND mother_resident_id IS NULL") == 0
    spouses = "FROM resident AS a JOIN resident AS b ON a.spouse_resident_id = b.resident_id"
    assert (
        one(
            con,
            f"SELECT count(*) {spouses} WHERE b.spouse_resident_id <> a.resident_id OR a.sex_code = b.sex_code",
        )
        == 0
    )
    children = "FROM resident AS c JOIN resident AS f ON f.resident_id = c.father_resident_id WHERE c.family_role = 'child'"
    named = one(con, f"SELECT avg((left(c.name, 1) = left(f.name, 1))::INT) {children}")
    assert 0.93 < named < 0.99


def test_twins_share_a_birthday_and_have_neighbouring_ids(con: duckdb.DuckDBPyConnection) -> None:
    pairs = "FROM resident AS a JOIN resident AS b ON a.twin_id = b.resident_id"
    assert one(con, f"SELECT count(*) {pairs}") > 0.004 * RESIDENTS
    broken = (
        "a.birth_date <> b.birth_date OR a.mother_resident_id <> b.mother_resident_id OR b.twin_id <> a.resident_id "
        "OR a.name = b.name OR left(a.id_no, 14) <> left(b.id_no, 14) "
        "OR abs(substr(a.id_no, 15, 3)::INT - substr(b.id_no, 15, 3)::INT) NOT BETWEEN 1 AND 3"
    )
    assert one(con, f"SELECT count(*) {pairs} WHERE {broken}") == 0


def test_names_collide_as_names_do(city: City) -> None:
    counts = Counter(city.residents["name"].to_pylist())
    assert 5 <= counts.most_common(1)[0][1] <= RESIDENTS * 0.0015
    shared = sum(n for n in counts.values() if n > 1) / RESIDENTS
    assert 0.08 < shared < 0.35
    neighbours = Counter(
        zip(city.residents["name"].to_pylist(), city.residents["station_code"].to_pylist(), strict=True)
    )
    assert sum(n > 1 for n in neighbours.values()) > 20


def test_registers_have_the_expected_sizes(con: duckdb.DuckDBPyConnection) -> None:
    registrations = one(con, "SELECT count(*) FROM registration")
    assert 1.42 < registrations / RESIDENTS < 1.60
    archived = one(
        con, "SELECT count(DISTINCT resident_id) FROM registration WHERE source_system = 'public_health'"
    )
    assert 0.86 < archived / RESIDENTS < 0.90
    doubles = one(con, "SELECT count(*) FROM registration WHERE is_duplicate_archive")
    assert 0.01 < doubles / archived < 0.02
    other_centre = (
        "SELECT count(*) FROM registration AS a JOIN registration AS b USING (resident_id) "
        "WHERE a.is_duplicate_archive AND b.source_system = 'public_health' "
        "AND NOT b.is_duplicate_archive AND a.org_code = b.org_code"
    )
    assert one(con, other_centre) == 0
    for system in ("lis", "pacs"):
        assert one(con, f"SELECT count(*) FROM registration WHERE source_system = '{system}'") > 50
    assert one(con, "SELECT count(DISTINCT org_code) FROM registration") == 24


def test_keys_are_unique_and_nobody_is_registered_before_birth_or_after_death(
    con: duckdb.DuckDBPyConnection,
) -> None:
    keys = "SELECT count(*) - count(DISTINCT (source_system, org_code, local_id)) FROM registration"
    assert one(con, keys) == 0
    assert one(con, "SELECT count(archive_no) - count(DISTINCT archive_no) FROM registration") == 0
    wrong_length = "FROM j WHERE archive <> (archive_no IS NOT NULL) OR length(archive_no) <> 17"
    assert one(con, f"SELECT count(*) {wrong_length}") == 0
    assert one(con, "SELECT count(*) FROM j WHERE registered_on < born OR registered_on >= death_date") == 0
    assert (
        one(
            con,
            "SELECT count(*) FROM j WHERE registered_on > DATE '2026-11-20' OR source_updated_at::DATE < registered_on",
        )
        == 0
    )
    assert one(con, "SELECT count(*) FROM j WHERE birth_date > registered_on") == 0


def test_every_day_brings_new_and_edited_registrations(city: City) -> None:
    history = city.delivered(None, date(2026, 11, 17))
    assert history.num_rows == len(set(history["registration_id"].to_pylist()))
    known = set(history["registration_id"].to_pylist())
    for day in (date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20)):
        rows = city.delivered(day, day)["registration_id"].to_pylist()
        assert set(rows) - known and set(rows) & known
        known |= set(rows)
    assert known == set(city.registrations["registration_id"].to_pylist())


def test_an_update_changes_something_for_some_and_keeps_the_keys(con: duckdb.DuckDBPyConnection) -> None:
    both = "FROM updated AS u JOIN registration AS g USING (registration_id)"
    assert (
        one(
            con,
            f"SELECT count(*) {both} WHERE (u.local_id, u.org_code, u.id_no) IS DISTINCT FROM (g.local_id, g.org_code, g.id_no)",
        )
        < 40
    )
    assert one(con, f"SELECT count(*) {both} WHERE u.source_updated_at <= g.source_updated_at") == 0
    assert one(con, f"SELECT count(*) {both} WHERE u.phone <> g.phone") > 20
    assert one(con, f"SELECT count(*) {both} WHERE u.addr_detail <> g.addr_detail") > 10


def test_newborns_are_registered_under_the_mother(con: duckdb.DuckDBPyConnection) -> None:
    assert one(con, "SELECT count(*) FROM j WHERE baby") > 50
    assert one(con, "SELECT count(*) FROM j WHERE baby AND NOT regexp_matches(name, '之[子女婴]$')") == 0
    assert one(con, "SELECT count(*) FROM j WHERE NOT baby AND regexp_matches(name, '之[子女婴]$')") == 0
    assert one(con, "SELECT count(*) FROM j WHERE baby AND id_no IS NOT NULL") == 0
    linked = (
        "FROM j JOIN registration AS m ON m.local_id = j.mother_patient_id "
        "AND m.org_code = j.org_code AND m.source_system = 'his'"
    )
    assert one(con, f"SELECT count(*) {linked} WHERE m.resident_id <> j.mother_resident_id") == 0
    assert one(con, f"SELECT count(*) {linked}") == one(con, "SELECT count(mother_patient_id) FROM j")
    assert one(con, f"SELECT count(*) {linked} AND baby") > 0.5 * one(
        con, "SELECT count(*) FROM j WHERE baby"
    )


def test_unknown_patients_are_nobodys_second_record(con: duckdb.DuckDBPyConnection) -> None:
    strangers = "FROM j WHERE family_role = 'stranger'"
    assert one(con, f"SELECT count(*) {strangers}") >= 0.001 * RESIDENTS
    assert one(con, f"SELECT count(*) - count(DISTINCT resident_id) {strangers}") == 0
    assert (
        one(
            con,
            f"SELECT count(*) {strangers} AND (id_no IS NOT NULL OR phone IS NOT NULL OR addr_detail IS NOT NULL)",
        )
        == 0
    )
    assert one(con, f"SELECT count(*) {strangers} AND NOT regexp_matches(name, '无名|未知|无姓名')") == 0


_N = Profile.load().people.name_errors
_I = Profile.load().people.id_errors
_F = Profile.load().people.field_errors
_ADULT = "NOT baby AND family_role <> 'stranger' AND age_then >= 14"
_NAMED = "NOT baby AND family_role <> 'stranger'"
RATES = {
    "name differs": (
        "name_clean <> true_name",
        _NAMED,
        _N.homophone + _N.lookalike + _N.swapped + _N.lost + _N.masked + _N.suffixed + _N.former_given,
    ),
    "name masked": ("name_clean LIKE '%*%'", _NAMED, _N.masked),
    "name with blanks": ("name <> name_clean", _NAMED, _N.blanks),
    "id missing, hospital": ("id_no IS NULL", f"{_ADULT} AND NOT archive", _I.missing_his),
    "id missing, archive": ("id_no IS NULL", f"{_ADULT} AND archive", _I.missing_archive),
    "id missing, child": ("id_no IS NULL", "archive AND age_then < 14", _I.missing_archive + _I.missing_child),
    "guardian's id": (
        "id_clean IN (mother_id, father_id)",
        "NOT baby AND age_then < 14",
        _I.guardian_child + _I.relative + _I.borrowed_card,
    ),
    "15 digits": ("regexp_full_match(id_clean, '[0-9]{15}')", f"{_ADULT} AND born < DATE '2000-01-01'", _I.fifteen),
    "masked id": ("id_clean LIKE '%****%'", _NAMED, _I.masked),
    "id with a digit lost": ("length(id_clean) = 17", _NAMED, _I.lost),
    "id that fails its check": (
        "length(id_clean) = 18 AND levenshtein(id_clean, true_id) BETWEEN 1 AND 2 AND id_clean NOT IN (SELECT id_no FROM resident)",
        _NAMED,
        _I.wrong_digit + _I.swapped,
    ),
    "placeholder id": ("id_clean IN (SELECT value FROM placeholder)", _NAMED, _I.placeholder),
    "small x": ("id_no LIKE '%x'", f"{_NAMED} AND upper(right(id_no, 1)) = 'X'", _I.lower_x),
    "full-width id": ("regexp_matches(id_no, '[０-９]')", f"{_NAMED} AND id_no IS NOT NULL", _I.full_width),
    "birth date missing": ("birth_date IS NULL", _NAMED, _F.birth_missing),
    "lunar birthday": ("date_diff('day', birth_date, born) BETWEEN 19 AND 55", "age >= 41", _F.birth_lunar),
    "year only": ("strftime(birth_date, '%m%d') = '0101' AND birth_date <> born", f"age >= 61 AND {_NAMED}", _F.birth_year_only),
    "sex wrong": ("sex_code <> true_sex AND sex_code <> '0'", "true", _F.sex_wrong),
    "sex unknown": ("sex_code = '0'", "true", _F.sex_unknown),
    "address missing, hospital": ("addr_detail IS NULL", f"{_NAMED} AND NOT archive", _F.address_missing),
    "insurance missing": ("insurance_no IS NULL", _NAMED, _F.insurance_missing),
}  # fmt: skip


@pytest.mark.parametrize("kind", RATES)
def test_error_rates_are_those_of_the_profile(con: duckdb.DuckDBPyConnection, kind: str) -> None:
    from simulator.people.naming import NAMES

    listed = f"read_csv('{NAMES / 'placeholders.csv'}', all_varchar = true)"
    con.execute(f"CREATE OR REPLACE TEMP TABLE placeholder AS SELECT value FROM {listed}")
    what, of, rate = RATES[kind]
    seen, rows = share(con, what, of)
    # Five standard deviations, and a fifth of the rate for what cannot happen to everybody (no homophone, no relative).
    slack = 5 * (rate * (1 - rate) / rows) ** 0.5 + 0.2 * rate
    assert abs(seen - rate) < slack, f"{kind}: {seen:.4f} seen in {rows} rows, {rate:.4f} wanted"


def test_shared_phones_and_styles_of_address(con: duckdb.DuckDBPyConnection) -> None:
    households = "SELECT count(*) FROM (SELECT phone FROM j GROUP BY 1 HAVING count(DISTINCT resident_id) BETWEEN 2 AND 8)"
    assert one(con, households) > 0.03 * RESIDENTS
    doctors = "SELECT count(*) FROM (SELECT phone FROM j WHERE archive GROUP BY 1, org_code HAVING count(DISTINCT resident_id) > 1)"
    assert one(con, doctors) > 100
    several = one(
        con,
        "SELECT avg((n > 1)::INT) FROM (SELECT resident_id, count(DISTINCT addr_detail) AS n, count(*) AS m "
        "FROM j GROUP BY 1) WHERE m > 1",
    )
    assert several > 0.6
    assert one(con, "SELECT count(*) FROM j WHERE addr_detail LIKE '汉江省%'") > 0.02 * RESIDENTS
    assert one(con, "SELECT count(*) FROM j WHERE regexp_matches(addr_detail, '[０-９]')") > 0


def test_truth_says_which_record_is_whose(city: City, tmp_path_factory: pytest.TempPathFactory) -> None:
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("truth")
    city.write_truth(folder)
    truth = pq.read_table(folder / "registration.parquet")
    assert truth.num_rows == city.registrations.num_rows and truth["resident_id"].null_count == 0
    assert {"source_system", "org_code", "local_id", "resident_id"} <= set(truth.column_names)
    assert isinstance(pq.read_table(folder / "resident.parquet"), pa.Table)
