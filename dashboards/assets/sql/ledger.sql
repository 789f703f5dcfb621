-- columns: received BIGINT, received_zh, loaded_zh, duplicate_zh, quarantined_zh, open_findings_zh, persons_zh, date_zh, is_balanced BOOLEAN
-- grain: a single row, the newest run
SELECT
    received,
    format('{:,}', received) AS received_zh,
    format('{:,}', loaded) AS loaded_zh,
    format('{:,}', duplicate) AS duplicate_zh,
    format('{:,}', quarantined) AS quarantined_zh,
    format('{:,}', open_findings) AS open_findings_zh,
    format('{:,}', persons) AS persons_zh,
    strftime(data_date, '%-m月%-d日') AS date_zh,
    received = loaded + duplicate + quarantined AS is_balanced
FROM ops.run_info
ORDER BY data_date DESC
LIMIT 1
