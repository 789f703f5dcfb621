-- columns: place INTEGER, org_code, org_short_name, org_level_code, org_level_zh, encounters BIGINT, encounters_zh, width_pct DOUBLE
-- grain: one row per institution, the twelve busiest of the last seven days
WITH week AS (
    SELECT
        org_code,
        any_value(org_short_name) AS org_short_name,
        any_value(org_level_code) AS org_level_code,
        CASE any_value(org_level_code) WHEN '3' THEN '三级' WHEN '2' THEN '二级' ELSE '基层' END AS org_level_zh,
        sum(encounters)::BIGINT AS encounters
    FROM gold.daily_encounter
    WHERE visit_date > (SELECT max(visit_date) FROM gold.daily_encounter) - 7
    GROUP BY org_code
)

SELECT
    row_number() OVER (ORDER BY encounters DESC, org_code)::INTEGER AS place,
    org_code,
    org_short_name,
    org_level_code,
    org_level_zh,
    encounters,
    format('{:,}', encounters) AS encounters_zh,
    round(100.0 * encounters / max(encounters) OVER (), 1) AS width_pct
FROM week
QUALIFY place <= 12
