-- columns: kind, ord INTEGER, is_area BOOLEAN, is_day BOOLEAN, is_level BOOLEAN, class_code, class_zh, newest BIGINT, newest_zh, area, line, x DOUBLE, y DOUBLE, label, legend_x INTEGER
-- grain: one row per class of visit (stacked area over six weeks), per named day, per named level; drawn on 428 x 236
WITH newest AS (
    SELECT max(visit_date) AS visit_date
    FROM gold.daily_encounter
),

visit AS (
    SELECT
        d.visit_date,
        -- Codes that no register knows keep their own text in gold; here they stand together.
        CASE WHEN d.class_code IN ('AMB', 'EMER', 'IMP') THEN d.class_code ELSE 'OTHER' END AS class_code,
        any_value(CASE WHEN d.class_code IN ('AMB', 'EMER', 'IMP') THEN d.class_zh ELSE '其他' END) AS class_zh,
        sum(d.encounters)::BIGINT AS encounters
    FROM gold.daily_encounter AS d
    INNER JOIN newest AS n ON d.visit_date > n.visit_date - 42
    GROUP BY 1, 2
),

class AS (
    SELECT
        class_code,
        any_value(class_zh) AS class_zh,
        row_number() OVER (ORDER BY sum(encounters) DESC, class_code)::INTEGER AS ord
    FROM visit
    GROUP BY class_code
),

day AS (
    -- Six weeks end at the right border; days without a visit are zeros, not gaps.
    SELECT
        (n.visit_date - back.days::INTEGER) AS visit_date,
        round(422 - back.days * 376 / 41.0, 1) AS x
    FROM newest AS n
    CROSS JOIN range(42) AS back (days)
),

stacked AS (
    SELECT
        day.visit_date,
        day.x,
        class.ord,
        class.class_code,
        class.class_zh,
        coalesce(visit.encounters, 0) AS encounters,
        sum(coalesce(visit.encounters, 0)) OVER (PARTITION BY day.visit_date ORDER BY class.ord) AS top
    FROM day
    CROSS JOIN class
    LEFT JOIN visit ON day.visit_date = visit.visit_date AND class.class_code = visit.class_code
),

step AS (
    -- The smallest round number of which four hold the highest day.
    SELECT coalesce(min(size), 1) AS size
    FROM (
        SELECT mantissa * pow(10, zeros) AS size
        FROM unnest([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8]) AS m (mantissa)
        CROSS JOIN range(7) AS z (zeros)
        WHERE size = floor(size)
    )
    WHERE size * 4 >= (SELECT max(top) FROM stacked)
),

scaled AS (
    SELECT
        s.*,
        round(206 - 168 * s.top / (4 * step.size), 1) AS y,
        round(206 - 168 * (s.top - s.encounters) / (4 * step.size), 1) AS floor_y
    FROM stacked AS s
    CROSS JOIN step
),

drawn AS (
    SELECT
        'area' AS kind,
        ord,
        class_code,
        class_zh,
        max_by(encounters, visit_date)::BIGINT AS newest,
        'M' || string_agg(x || ' ' || y, 'L' ORDER BY visit_date)
        || 'L' || string_agg(x || ' ' || floor_y, 'L' ORDER BY visit_date DESC) || 'Z' AS area,
        'M' || string_agg(x || ' ' || y, 'L' ORDER BY visit_date) AS line,
        NULL::DOUBLE AS x,
        NULL::DOUBLE AS y,
        NULL AS label
    FROM scaled
    GROUP BY ord, class_code, class_zh
    UNION ALL
    SELECT 'day', 100, NULL, NULL, NULL, NULL, NULL, day.x, NULL, strftime(day.visit_date, '%-m月%-d日')
    FROM day
    CROSS JOIN newest
    WHERE (newest.visit_date - day.visit_date) % 10 = 3
    UNION ALL
    SELECT 'level', 200, NULL, NULL, NULL, NULL, NULL, NULL, 206 - 42 * n.nth, format('{:,}', (n.nth * step.size)::BIGINT)
    FROM range(5) AS n (nth)
    CROSS JOIN step
)

SELECT
    *,
    format('{:,}', newest) AS newest_zh,
    kind = 'area' AS is_area,
    kind = 'day' AS is_day,
    kind = 'level' AS is_level,
    CASE WHEN kind = 'area' THEN 46 + least(130, 388 // count(*) FILTER (WHERE kind = 'area') OVER ()) * (ord - 1) END AS legend_x
FROM drawn
