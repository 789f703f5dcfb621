-- columns: kind, name, direction_code, path, x INTEGER, y DOUBLE, height DOUBLE, label_y DOUBLE, referrals_zh, up_zh, down_zh, is_node BOOLEAN, is_left BOOLEAN, is_ribbon BOOLEAN
-- grain: one row per node and per ribbon of the drawing (430 x 180); one row of nulls when there is no referral
-- Left stand the institutions that refer upwards (the seven busiest, the rest together), right the hospitals; a
-- ribbon is a pair of them in one direction, so upward and downward referrals share the two columns.
WITH short AS (
    -- Full names do not fit beside the drawing.
    SELECT
        org_code,
        any_value(org_short_name) AS org_short_name
    FROM gold.daily_encounter
    GROUP BY org_code
),

flow AS (
    SELECT
        r.direction_code,
        CASE r.direction_code WHEN 'up' THEN f.name ELSE t.name END AS lower_name,
        CASE r.direction_code WHEN 'up' THEN t.name ELSE f.name END AS upper_name,
        r.referrals
    FROM gold.referral_flow AS r
    CROSS JOIN LATERAL (
        SELECT coalesce(max(org_short_name), r.from_org_name) AS name FROM short WHERE org_code = r.from_org_code
    ) AS f
    CROSS JOIN LATERAL (
        SELECT coalesce(max(org_short_name), r.to_org_name) AS name FROM short WHERE org_code = r.to_org_code
    ) AS t
    WHERE r.referrals > 0
),

busy AS (
    SELECT lower_name
    FROM flow
    GROUP BY lower_name
    ORDER BY sum(referrals) DESC, lower_name
    LIMIT 7
),

pair AS (
    SELECT
        coalesce(b.lower_name, '其他机构') AS lower_name,
        f.upper_name,
        f.direction_code,
        sum(f.referrals)::BIGINT AS referrals
    FROM flow AS f
    LEFT JOIN busy AS b ON f.lower_name = b.lower_name
    GROUP BY ALL
),

side AS (
    SELECT 'left' AS kind, lower_name AS name, sum(referrals) AS referrals FROM pair GROUP BY ALL
    UNION ALL
    SELECT 'right', upper_name, sum(referrals) FROM pair GROUP BY ALL
),

scale AS (
    -- Height of one referral, so that the fuller side fits with 14 units between its nodes.
    SELECT min((180 - 14 * (nodes - 1)) / referrals) AS unit
    FROM (SELECT kind, count(*) AS nodes, sum(referrals) AS referrals FROM side GROUP BY kind)
),

node AS (
    SELECT
        kind,
        name,
        referrals,
        referrals * unit AS height,
        sum(referrals * unit + 14) OVER (
            PARTITION BY kind ORDER BY name = '其他机构', referrals DESC, name
        ) - referrals * unit - 14
        -- The shorter side is centred.
        + (180 - sum(referrals * unit + 14) OVER (PARTITION BY kind) + 14) / 2 AS y
    FROM side
    CROSS JOIN scale
),

ribbon AS (
    SELECT
        p.lower_name,
        p.upper_name,
        p.direction_code,
        p.referrals,
        p.referrals * s.unit AS h,
        l.y + s.unit * (
            sum(p.referrals) OVER (PARTITION BY p.lower_name ORDER BY r.y, p.direction_code DESC) - p.referrals
        ) AS y0,
        r.y + s.unit * (
            sum(p.referrals) OVER (PARTITION BY p.upper_name ORDER BY l.y, p.direction_code DESC) - p.referrals
        ) AS y1
    FROM pair AS p
    INNER JOIN node AS l ON l.kind = 'left' AND p.lower_name = l.name
    INNER JOIN node AS r ON r.kind = 'right' AND p.upper_name = r.name
    CROSS JOIN scale AS s
),

drawn AS (
    SELECT
        'ribbon' AS kind,
        lower_name || ' ' || upper_name AS name,
        direction_code,
        format(
            'M98 {0:.1f}C198 {0:.1f} 198 {1:.1f} 298 {1:.1f}L298 {2:.1f}C198 {2:.1f} 198 {3:.1f} 98 {3:.1f}Z',
            y0, y1, y1 + h, y0 + h
        ) AS path,
        NULL::INTEGER AS x,
        NULL::DOUBLE AS y,
        h AS height,
        NULL::DOUBLE AS label_y,
        referrals
    FROM ribbon
    UNION ALL
    SELECT
        kind,
        name,
        NULL,
        NULL,
        CASE kind WHEN 'left' THEN 90 ELSE 298 END,
        y,
        greatest(height, 2),
        y + height / 2 + 6,
        referrals
    FROM node
)

SELECT
    d.kind,
    d.name,
    d.direction_code,
    d.path,
    d.x,
    round(d.y, 1) AS y,
    round(d.height, 1) AS height,
    round(d.label_y, 1) AS label_y,
    format('{:,}', d.referrals::BIGINT) AS referrals_zh,
    format('{:,}', total.up) AS up_zh,
    format('{:,}', total.down) AS down_zh,
    d.kind IN ('left', 'right') AS is_node,
    d.kind = 'left' AS is_left,
    d.kind = 'ribbon' AS is_ribbon
FROM (
    SELECT
        coalesce(sum(referrals) FILTER (WHERE direction_code = 'up'), 0)::BIGINT AS up,
        coalesce(sum(referrals) FILTER (WHERE direction_code = 'down'), 0)::BIGINT AS down
    FROM flow
) AS total
LEFT JOIN drawn AS d ON TRUE
ORDER BY d.kind DESC, d.referrals DESC, d.name
