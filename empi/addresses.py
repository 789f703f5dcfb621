"""Address parts: town, village and house as tokens, from the region code and from the text, in any of its styles.

Registers write the same place as ``湖东区湖滨街道湖滨老洲社区3组12号``, ``湖滨老洲3-12`` or only by its 12-digit code.
The tokens are the names' cores (``湖滨``, ``老洲``, ``12``), so that all of these meet; a place that the region
register does not know keeps the core of what stands in the text.
"""

from __future__ import annotations

import duckdb

from lake import registry
from lake.settings import settings

_WIDE = "translate(s, '０１２３４５６７８９－—～', '0123456789---')"
_NUMERALS = "translate({0}, '一二三四五六七八九', '123456789')"

MACROS = (
    rf"""CREATE OR REPLACE MACRO addr_clean(s) AS nullif(regexp_replace(
        regexp_replace({_WIDE}, '[\s,，。.、;；()（）]', '', 'g'), '^(中国)?([^市县区]{{2,3}}省)?', ''), '')""",
    # the levels above the town, each optional
    """CREATE OR REPLACE MACRO addr_local(s) AS
       regexp_replace(regexp_replace(s, '^[^市县区镇乡村]{2,4}市', ''), '^[^市县区镇乡村道社]{2,4}[县区]', '')""",
    "CREATE OR REPLACE MACRO town_core(s) AS regexp_replace(s, '(街道办事处|街道|镇|乡)$', '')",
    "CREATE OR REPLACE MACRO village_core(s) AS regexp_replace(s, '(村民委员会|村委会|居委会|社区|村|小区)$', '')",
    # the house: the number before 号, else the last one that is no group, building, unit or room
    r"""CREATE OR REPLACE MACRO addr_house(s) AS nullif(coalesce(nullif(regexp_extract(s, '(\d+)号', 1), ''),
        regexp_extract(regexp_replace(s, '\d+(组|队|栋|幢|单元|室|楼)', '-', 'g'), '(\d+)[^0-9]*$', 1)), '')""",
)


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Define the address macros."""
    for macro in MACROS:
        connection.execute(macro)


def create_region(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``region(region_code, town, village)`` from the register of regions."""
    create_macros(connection)
    connection.execute(
        f"""CREATE OR REPLACE TABLE region AS
        WITH r AS (SELECT region_code, region_name, level
                   FROM read_csv('{settings().seeds_dir / "region.csv"}', all_varchar = true, header = true)),
        town AS (SELECT region_code,
                        town_core(regexp_replace(region_name, '^[^镇乡街道]{{2,3}}[县区]', '')) AS town
                 FROM r WHERE level = 'town')
        SELECT region_code, town, NULL AS village FROM town
        UNION ALL
        SELECT v.region_code, t.town,
               CASE WHEN starts_with(village_core(v.region_name), t.town)
                    THEN substr(village_core(v.region_name), length(t.town) + 1)
                    ELSE village_core(v.region_name) END
        FROM r v JOIN town t ON t.region_code = left(v.region_code, 9) WHERE v.level = 'village'"""
    )


def create_nearby(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``nearby(org_code, village, town)``: which town a bare village name means to an institution.

    A centre means the village of its own town; the rest of the city a name that only one town has (``org_code``
    null).
    """
    connection.register("org_arrow", registry.orgs().select(["org_code", "region_code"]))
    connection.execute(
        """CREATE OR REPLACE TABLE nearby AS
        SELECT o.org_code, r.village, any_value(r.town) AS town FROM region r
        JOIN org_arrow o ON length(o.region_code) >= 9 AND left(o.region_code, 9) = left(r.region_code, 9)
        WHERE r.village IS NOT NULL GROUP BY ALL
        UNION ALL
        SELECT NULL, village, any_value(town) FROM region
        WHERE village IS NOT NULL GROUP BY village HAVING count(DISTINCT town) = 1"""
    )
    connection.unregister("org_arrow")


def create_address(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``address(addr_detail, town, village, house)``, one row per distinct text of ``source_record``.

    A village is looked up by its core after the town's name; the text may leave out either.
    """
    connection.execute(
        r"""CREATE OR REPLACE TABLE address AS
        WITH text AS (SELECT addr_detail, addr_local(addr_clean(addr_detail)) AS a
                      FROM (SELECT DISTINCT addr_detail FROM source_record WHERE addr_detail IS NOT NULL)),
        -- the words before the first number name the place, the rest names the house
        split AS (SELECT addr_detail, a, regexp_extract(a, '^[^0-9*]*') AS place FROM text),
        part AS (SELECT addr_detail, a, place,
                        regexp_extract(place, '^(..{1,3}?)(?:街道办事处|街道|镇|乡)(.*)$', ['town', 'rest']) AS p
                 FROM split),
        placed AS (SELECT addr_detail, a, place, coalesce(nullif(p.town, ''), t.town) AS town,
                          CASE WHEN p.town <> '' THEN p.rest ELSE place END AS rest
                   FROM (SELECT *, CASE WHEN p.town = '' THEN place END AS bare FROM part)
                   LEFT JOIN (SELECT DISTINCT town FROM region) t ON starts_with(bare, t.town))
        SELECT addr_detail, town,
               nullif(village_core(regexp_extract(
                   CASE WHEN starts_with(rest, coalesce(town, '#')) THEN substr(rest, length(town) + 1) ELSE rest END,
                   '^(.*?(?:社区|村|居委会|$))')), '') AS village,
               addr_house(substr(a, length(place) + 1)) AS house
        FROM placed"""
    )
