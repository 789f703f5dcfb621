-- columns: product, label_zh, gate, is_closed BOOLEAN, is_many BOOLEAN, date_zh, reason_zh
-- grain: one row per data product, closed gates first
SELECT
    product,
    label_zh,
    gate,
    gate = 'closed' AS is_closed,
    count(*) FILTER (WHERE gate = 'closed') OVER () > 3 AS is_many,
    coalesce(strftime(data_date, '%-m月%-d日'), '尚无') AS date_zh,
    CASE WHEN gate = 'closed' THEN coalesce(reason_zh, '原因未记录') END AS reason_zh
FROM ops.publication
