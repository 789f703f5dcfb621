-- columns: weekday_no INTEGER, weekday_zh, hour INTEGER, encounters BIGINT, x INTEGER, y INTEGER, level INTEGER, row_label, label_y INTEGER, hour_label, hour_x INTEGER, is_peak BOOLEAN
-- grain: one row per weekday and hour, 28 days together; places in a 24 x 18 and 7 x 26 raster
SELECT
    h.weekday_no,
    h.weekday_zh,
    h.hour,
    h.encounters,
    (44 + 17 * h.hour)::INTEGER AS x,
    (4 + 27 * (h.weekday_no - 1))::INTEGER AS y,
    -- Ten steps of the square root: night hours would all be black on a straight scale.
    ceil(10 * sqrt(h.encounters / nullif(max(h.encounters) OVER (), 0)))::INTEGER AS level,
    CASE WHEN h.hour = 0 THEN h.weekday_zh END AS row_label,
    (4 + 27 * (h.weekday_no - 1) + 18)::INTEGER AS label_y,
    CASE WHEN h.weekday_no = 7 AND h.hour % 3 = 0 THEN h.hour || '时' END AS hour_label,
    (44 + 17 * h.hour + 8)::INTEGER AS hour_x,
    h.encounters = max(h.encounters) OVER () AND h.encounters > 0 AS is_peak
FROM gold.hourly_heat AS h
