-- columns: org_code, district_name, svg_path, label_x INTEGER, label_y INTEGER, rate_x INTEGER, rate_y INTEGER, band, rate_zh, city_rate_zh, city_managed_zh, stale_zh
-- grain: one row per centre's district
WITH district AS (
    SELECT
        *,
        sum(standard_managed) OVER () / nullif(sum(managed) OVER (), 0) AS city_rate,
        sum(managed) OVER ()::BIGINT AS city_managed
    FROM gold.district_map
)

SELECT
    org_code,
    district_name,
    svg_path,
    label_x::INTEGER AS label_x,
    label_y::INTEGER AS label_y,
    CASE
        WHEN standard_rate IS NULL THEN 'none'
        WHEN standard_rate < 0.5 THEN 'b1'
        WHEN standard_rate < 0.6 THEN 'b2'
        WHEN standard_rate < 0.7 THEN 'b3'
        WHEN standard_rate < 0.8 THEN 'b4'
        ELSE 'b5'
    END AS band,
    coalesce(format('{:.1f}%', 100 * standard_rate), '—') AS rate_zh,
    label_x::INTEGER AS rate_x,
    label_y::INTEGER + 27 AS rate_y,
    coalesce(format('{:.1f}', 100 * city_rate), '—') AS city_rate_zh,
    format('{:,}', city_managed) AS city_managed_zh,
    (
        SELECT strftime(data_date, '数据截至 %-m月%-d日')
        FROM ops.publication
        WHERE product = 'chronic_disease' AND gate = 'closed'
    ) AS stale_zh
FROM district
