-- columns: ord INTEGER, kpi_code, label_zh, value DOUBLE, value_zh, unit_zh, delta_zh, trend, stale_zh
-- grain: one row per card
WITH run AS (
    SELECT max(data_date) AS data_date
    FROM ops.run_info
),

scaled AS (
    -- Big sums of money are read in 万元; the raw value stays beside for who compares.
    SELECT
        *,
        unit_zh = '元' AND abs(value) >= 100000 AS in_wan,
        CASE WHEN in_wan THEN value / 10000 ELSE value END AS shown
    FROM gold.wall_kpi
)

SELECT
    k.ord,
    k.kpi_code,
    k.label_zh,
    k.value,
    CASE
        WHEN k.shown = round(k.shown) THEN format('{:,.0f}', k.shown)
        WHEN abs(k.shown) >= 10000 THEN format('{:,.0f}', k.shown)
        WHEN abs(k.shown) < 100 THEN format('{:,.2f}', k.shown)
        ELSE format('{:,.1f}', k.shown)
    END AS value_zh,
    CASE WHEN k.in_wan THEN '万元' ELSE k.unit_zh END AS unit_zh,
    CASE
        WHEN k.delta_pct > 0 THEN format('▲ {:.1f}%', k.delta_pct)
        WHEN k.delta_pct < 0 THEN format('▼ {:.1f}%', -k.delta_pct)
        WHEN k.delta_pct = 0 THEN '持平'
    END AS delta_zh,
    CASE WHEN k.delta_pct > 0 THEN 'up' WHEN k.delta_pct < 0 THEN 'down' ELSE 'flat' END AS trend,
    CASE WHEN k.data_date < run.data_date THEN strftime(k.data_date, '截至 %-m月%-d日') END AS stale_zh
FROM scaled AS k
CROSS JOIN run
