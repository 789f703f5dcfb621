-- columns: ord INTEGER, kind_zh, severity, text_zh, time_zh, alerts INTEGER, rolls BOOLEAN
-- grain: one row per alert, the gravest first and the newest of them; a single row of nulls when there is none
WITH alert AS (
    SELECT
        row_number() OVER (
            ORDER BY coalesce(list_position(['error', 'warn'], severity), 3), occurred_at DESC, org_short_name, text_zh
        )::INTEGER AS ord,
        kind_zh,
        severity,
        -- who must act stands first; what concerns everybody names nobody
        CASE WHEN org_short_name = '全集团' OR starts_with(text_zh, org_short_name) THEN '' ELSE org_short_name || ' ' END
        || text_zh AS text_zh,
        strftime(occurred_at AT TIME ZONE 'Asia/Shanghai', '%-m月%-d日 %H:%M') AS time_zh
    FROM gold.wall_alert
    QUALIFY ord <= 20
)

SELECT
    a.ord,
    a.kind_zh,
    a.severity,
    a.text_zh,
    a.time_zh,
    total.alerts,
    total.alerts > 3 AS rolls
FROM (SELECT count(*)::INTEGER AS alerts FROM alert) AS total
LEFT JOIN alert AS a ON TRUE
ORDER BY a.ord
