"""From ``given`` (a file's columns) to ``source_record``: every way of writing a value becomes the platform's one.

Types first (numbers without a fraction become digits, instants the day in Shanghai), then the field's own codings;
birth dates and sexes are read once per distinct text. What cannot be understood becomes null and is counted.
"""

from __future__ import annotations

import duckdb

from empi import sources
from empi.trial.mapping import Mapping
from empi.trial.reading import Column
from lake.errors import MedlakeError

_INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
#: Whole numbers up to 2**53 are exact in a double; an 18-digit id in one has lost its end.
_EXACT = 2**53

MEN = "1 男 男性 男孩 M MALE MAN BOY ♂ 01 1-男".split()
WOMEN = "2 女 女性 女孩 F FEMALE WOMAN GIRL ♀ 02 2-女".split()
#: These say that it is not known (GB/T 2261.1: 0 unknown, 9 not stated); they are understood.
_NO_SEX = "0 9 00 09 未知 未说明 未说明的性别 不详 U UNKNOWN X".split()

_PLAIN = "translate({}, '０１２３４５６７８９／－．：　', '0123456789/-.: ')"

#: Text -> day, first that fits; ``{first_is_day}`` says how 03/04/1980 is meant.
_DAY = r"""
    CASE
    WHEN regexp_full_match(t, '\d{{8}}(\d{{6}})?(\.0+)?') THEN CASE
        WHEN substr(t, 5, 4) = '0000' THEN try_strptime(left(t, 4), '%Y')
        WHEN substr(t, 7, 2) = '00' THEN try_strptime(left(t, 6), '%Y%m')
        ELSE try_strptime(left(t, 8), '%Y%m%d') END
    WHEN regexp_matches(t, '^\d{{4}}\D+\d{{1,2}}\D+\d{{1,2}}') THEN try_strptime(
        regexp_extract(t, '^(\d{{4}})\D', 1) || '-' || regexp_extract(t, '^\d{{4}}\D+(\d{{1,2}})', 1) || '-' ||
        regexp_extract(t, '^\d{{4}}\D+\d{{1,2}}\D+(\d{{1,2}})', 1), '%Y-%m-%d')
    WHEN regexp_matches(t, '^\d{{1,2}}[-/. ]\d{{1,2}}[-/. ]\d{{4}}') THEN try_strptime(
        regexp_extract(t, '^\d{{1,2}}\D\d{{1,2}}\D\d{{4}}'), [{orders}])
    WHEN regexp_full_match(t, '\d{{4}}(年|\.0+)?') AND left(t, 2) IN ('18', '19', '20') THEN try_strptime(left(t, 4), '%Y')
    WHEN regexp_full_match(t, '(18|19|20)\d{{4}}(\.0+)?') THEN try_strptime(left(t, 6), '%Y%m')
    WHEN regexp_full_match(t, '\d{{4}}\D\d{{1,2}}月?') THEN try_strptime(regexp_replace(t, '\D+', '-', 'g'), ['%Y-%m', '%Y-%m-'])
    -- a spreadsheet's day number
    WHEN regexp_full_match(t, '\d{{5}}(\.0+)?') THEN DATE '1899-12-30' + left(t, 5)::INTEGER
    END"""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def text_sql(column: Column) -> str:
    """A column of ``given`` as text, blanks trimmed, null if empty; of numbers the digits, of instants the day."""
    name, kind = column.name, column.type
    if kind in _INTEGERS:
        return f"{name}::VARCHAR"
    if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        whole = f"{name} = floor({name}) AND abs({name}) < {_EXACT}"
        exact = f"{name}::VARCHAR" if kind.startswith("DECIMAL") else "NULL"
        return f"CASE WHEN {whole} THEN {name}::BIGINT::VARCHAR ELSE {exact} END"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"strftime(timezone('Asia/Shanghai', {name}), '%Y-%m-%d')"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"strftime({name}, '%Y-%m-%d')"
    return rf"nullif(regexp_replace({name}::VARCHAR, '^[\s　\x{{200b}}\x{{feff}}]+|[\s　\x{{200b}}\x{{feff}}]+$', '', 'g'), '')"


def number_sql(text: str) -> str:
    """A text of digits without what spreadsheets do to it: ``="420…"``, ``'420…``, ``139….0``."""
    return (
        rf"""nullif(regexp_replace(regexp_replace({text}, '^=?["'']+|["'']+$', '', 'g'), '\.0+$', ''), '')"""
    )


def name_sql(text: str) -> str:
    """A name; of one without Han characters the words in the order of the alphabet, without accents.

    ``José da Silva`` and ``SILVA, Jose da`` are one name; a Latin name is compared as a whole.
    """
    words = (
        f"string_split(regexp_replace(strip_accents(upper({text})), '[^\\p{{L}}\\p{{N}}*]+', ' ', 'g'), ' ')"
    )
    return (
        f"CASE WHEN {text} IS NULL OR regexp_matches({text}, '\\p{{Han}}') THEN {text} "
        f"ELSE array_to_string(list_sort({words}), ' ') END"
    )


def create_day(connection: duckdb.DuckDBPyConnection, text: str, mapping: Mapping) -> None:
    """Make ``day_key(text, day)``, one row per distinct text of the birth date's column."""
    connection.execute(
        f"CREATE OR REPLACE TABLE day_text AS SELECT DISTINCT {text} AS text FROM given WHERE {text} IS NOT NULL"
    )
    # 03/04/1980: a first number above 12 anywhere in the file tells, else a second one, else the day comes first
    first, second = connection.execute(
        r"""SELECT count(*) FILTER (regexp_extract(text, '^(\d{1,2})[-/. ]\d{1,2}[-/. ]\d{4}', 1)::INTEGER > 12),
                   count(*) FILTER (regexp_extract(text, '^\d{1,2}[-/. ](\d{1,2})[-/. ]\d{4}', 1)::INTEGER > 12)
        FROM day_text WHERE regexp_matches(text, '^\d{1,2}[-/. ]\d{1,2}[-/. ]\d{4}')"""
    ).fetchall()[0]
    day_first, month_first = ([f"{a}{s}{b}{s}%Y" for s in "-/. "] for a, b in (("%d", "%m"), ("%m", "%d")))
    orders = [*month_first, *day_first] if second > first else [*day_first, *month_first]
    given = "".join(f"try_strptime(text, {_literal(f)}), " for f in mapping.date_formats)
    day = _DAY.format(orders=", ".join(_literal(o) for o in orders))
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_key AS SELECT text, coalesce({given}{day})::DATE AS day
        FROM (SELECT text, {_PLAIN.format("text")} AS t FROM day_text)"""
    )


def create_sex(connection: duckdb.DuckDBPyConnection, text: str, mapping: Mapping) -> None:
    """Make ``sex_key(text, sex, is_known)``, one row per distinct text of the sex column."""
    known = {
        **dict.fromkeys(MEN, "1"),
        **dict.fromkeys(WOMEN, "2"),
        **dict.fromkeys(_NO_SEX, ""),
        **mapping.sex_codes,
    }
    rows = ", ".join(f"({_literal(k)}, {_literal(v)})" for k, v in known.items())
    plain = number_sql(f"upper({_PLAIN.format('text')})")
    connection.execute(
        f"""CREATE OR REPLACE TABLE sex_key AS
        SELECT text, nullif(k.sex, '') AS sex, k.sex IS NOT NULL AS is_known
        FROM (SELECT DISTINCT {text} AS text FROM given WHERE {text} IS NOT NULL) g
        LEFT JOIN (VALUES {rows}) k(code, sex) ON k.code = {plain}"""
    )


#: An identity number of China, whole, masked or of the old form, or a passport or permit.
_CHINESE_ID = r"'\d{6}[\d*]{8}\d{3}[\dX]|\d{15}|[A-Z]{1,2}\d{7,10}'"
#: Below this share the column holds numbers of another kind, which identify without being checkable.
_CHINESE_SHARE = 0.1
#: One institution registers few people twice; the registers that the city's profile is made after, about two in a hundred.
_REPEATED_SHARE = 0.05


def _is_foreign(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    plain = rf"regexp_replace(upper({text}), '[^0-9A-Z*]', '', 'g')"
    given, chinese = connection.execute(
        f"SELECT count({text}), count(*) FILTER (regexp_full_match({plain}, {_CHINESE_ID})) FROM given"
    ).fetchall()[0]
    return bool(given) and chinese < _CHINESE_SHARE * given


def _check_ids(connection: duckdb.DuckDBPyConnection, path: str, column: str) -> None:
    missing, repeated, row = connection.execute(
        """SELECT coalesce(sum(n) FILTER (key IS NULL), 0)::BIGINT, count(*) FILTER (key IS NOT NULL AND n > 1),
                  min(row) FILTER (key IS NULL OR n > 1)
        FROM (SELECT identifier_value AS key, count(*) AS n, min(row_no) AS row FROM trial_row
              GROUP BY identifier_value, source_system)"""
    ).fetchall()[0]
    if missing or repeated:
        raise MedlakeError("E373", place=path, column=column, missing=missing, repeated=repeated, row=row)


def _tell_desks_apart(connection: duckdb.DuckDBPyConnection) -> None:
    """Without a column ``organization``: is a source one institution, or a system that many write to?

    Two newborns of one mother at one institution are twins, at two they are one child. Where more than
    ``_REPEATED_SHARE`` of the people stand twice, each record is taken to come from a desk of its own.
    """
    connection.execute(
        f"""UPDATE source_record SET org_code = identifier_value WHERE source_system IN (
            SELECT source_system FROM (
                SELECT source_system, count(*) AS n FROM source_record
                WHERE id_no IS NOT NULL OR (name IS NOT NULL AND birth_date IS NOT NULL)
                GROUP BY source_system, coalesce(id_no, name || birth_date::VARCHAR))
            GROUP BY source_system HAVING sum(n - 1) > {_REPEATED_SHARE} * sum(n))"""
    )


def create_source_record(
    connection: duckdb.DuckDBPyConnection, mapping: Mapping, given: dict[str, Column], path: str
) -> dict[str, int]:
    """Make ``source_record`` and ``trial_row(rec_no, row_no)``; ``rec_no`` counts from 0 in the order of source and id.

    Args:
        given: the columns of ``given`` by their names in the file.
        path: the file's, for errors.

    Returns:
        ``records`` and, per field, how many values could not be understood (only fields that have such).

    Raises:
        MedlakeError: E373, a record without an id or one id twice.
    """
    columns = {field: [text_sql(given[name]) for name in names] for field, names in mapping.columns.items()}

    def text(field: str) -> str:
        parts = columns.get(field, ["NULL::VARCHAR"])
        return parts[0] if len(parts) == 1 else f"nullif(concat_ws(' ', {', '.join(parts)}), '')"

    birth, sex = text("birth_date"), text("sex")
    create_day(connection, birth, mapping)
    create_sex(connection, sex, mapping)
    national, insurance = number_sql(text("national_id")), number_sql(text("insurance"))
    if "national_id" in columns and _is_foreign(connection, national):
        insurance = f"coalesce({insurance}, {national})"
    # of several numbers in one field the first
    phones = {
        f: f"regexp_extract({number_sql(text(f))}, '^[^;,/、；，]+')" for f in ("phone", "contact_phone")
    }
    connection.execute(
        f"""CREATE OR REPLACE TABLE trial_row AS
        SELECT row_no, coalesce({text("source")}, 'file') AS source_system, {text("record_id")} AS identifier_value
        FROM given"""
    )
    _check_ids(connection, path, mapping.columns["record_id"][0])
    connection.execute(
        """CREATE OR REPLACE TABLE trial_row AS
        SELECT (row_number() OVER (ORDER BY source_system, identifier_value) - 1)::INTEGER AS rec_no, *
        FROM trial_row"""
    )
    sources.create_source_record(connection)
    connection.execute(
        f"""INSERT INTO source_record BY NAME
        SELECT r.rec_no, r.source_system, coalesce({text("organization")}, '') AS org_code, r.identifier_value,
               {name_sql(text("name"))} AS name, s.sex AS sex_code, d.day AS birth_date, {national} AS id_no,
               {number_sql(text("card"))} AS health_card_no, {insurance} AS insurance_no,
               {phones["phone"]} AS phone, {name_sql(text("contact_name"))} AS contact_name,
               {phones["contact_phone"]} AS contact_phone, {text("mother_record")} AS mother_identifier,
               {number_sql(text("region_code"))} AS addr_region_code, {text("address")} AS addr_detail,
               false AS is_dead
        FROM given JOIN trial_row r USING (row_no)
        LEFT JOIN day_key d ON d.text = {birth} LEFT JOIN sex_key s ON s.text = {sex}"""
    )
    if not {"organization", "mother_record"} & set(columns):
        _tell_desks_apart(connection)
    # a number too long for the column's type has lost its end before it came here
    raw = given[mapping.columns["national_id"][0]].name if "national_id" in columns else "NULL"
    counts = connection.execute(
        f"""SELECT count(*), count(*) FILTER (d.text IS NOT NULL AND d.day IS NULL),
                   count(*) FILTER (NOT s.is_known), count(*) FILTER ({raw} IS NOT NULL AND {text("national_id")} IS NULL)
        FROM given LEFT JOIN day_key d ON d.text = {birth} LEFT JOIN sex_key s ON s.text = {sex}"""
    ).fetchall()[0]
    named = zip(("records", "birth_date", "sex", "national_id"), counts, strict=True)
    return {k: int(v) for k, v in named if v or k == "records"}
