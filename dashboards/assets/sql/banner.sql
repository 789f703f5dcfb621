-- columns: date_zh, weekday_zh, published_zh, gates, open_gates, is_closed BOOLEAN, closed_gates, is_many BOOLEAN, product, label_zh, reason_zh, good_until_zh
-- grain: one row per closed gate, or a single row without label when all are open
WITH run AS (
    SELECT data_date
    FROM ops.run_info
    ORDER BY data_date DESC
    LIMIT 1
),

gate AS (
    SELECT
        count(*) AS gates,
        count(*) FILTER (WHERE gate = 'open') AS open_gates,
        max(published_at) AS published_at
    FROM ops.publication
)

SELECT
    strftime(run.data_date, '%Y年%-m月%-d日') AS date_zh,
    '星期' || substr('一二三四五六日', isodow(run.data_date)::INTEGER, 1) AS weekday_zh,
    strftime(gate.published_at AT TIME ZONE 'Asia/Shanghai', '%-m月%-d日 %H:%M') AS published_zh,
    gate.gates,
    gate.open_gates,
    gate.open_gates < gate.gates AS is_closed,
    gate.gates - gate.open_gates AS closed_gates,
    gate.gates - gate.open_gates > 3 AS is_many,
    closed.product,
    closed.label_zh,
    closed.reason_zh,
    coalesce(strftime(closed.data_date, '%-m月%-d日'), '尚无合格数据') AS good_until_zh
FROM run
CROSS JOIN gate
LEFT JOIN ops.publication AS closed ON closed.gate = 'closed'
