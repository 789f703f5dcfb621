-- What each test looks at, per institution and doctor, in one quarter. {name} are parameters, filled in as literals by
-- quality/forensics/screen.py; `visit` is the quarter's hypertension and diabetes follow-ups that were not withdrawn.

-- one measurement, once: a joint hypertension and diabetes follow-up carries the same one twice
CREATE OR REPLACE TEMP TABLE reading AS
SELECT org_code, doctor_id, archive_id, on_day, sbp, dbp, max(device) AS device
FROM visit WHERE sbp IS NOT NULL GROUP BY ALL;

-- digit: last digits of the systolic pressure; is_even: mercury by its code, or no code and no odd reading
CREATE OR REPLACE TEMP TABLE m_digit AS
SELECT
    org_code, doctor_id, count(*) AS n,
    list_transform(range(10), lambda d: list_count(list_filter(list(sbp::BIGINT % 10), lambda v: v = d))) AS digits,
    coalesce(mode(device) IN {mercury_codes}, count(*) FILTER (sbp::BIGINT % 2 = 1) = 0) AS is_even
FROM reading
GROUP BY ALL HAVING count(*) >= {digit_least_n};

-- limit: k just under the target of n around it, against the city's share of the same
CREATE OR REPLACE TEMP TABLE m_limit AS
WITH near AS (
    SELECT org_code, doctor_id, count(*) AS n, count(*) FILTER (sbp < {limit_sbp}) AS k
    FROM reading WHERE sbp >= {limit_sbp} - {limit_band} AND sbp < {limit_sbp} + {limit_band}
    GROUP BY ALL
)
SELECT *, (sum(k) OVER () + 0.5) / (sum(n) OVER () + 1) AS share FROM near QUALIFY n >= {limit_least_n};

-- identical: k pairs of persons with readings equal in both pressures (a person's own repeats count once), against the city's distribution of pressures
CREATE OR REPLACE TEMP TABLE m_identical AS
WITH pressure AS (
    SELECT org_code, doctor_id, sbp, dbp, count(DISTINCT archive_id) AS c FROM reading
    WHERE dbp IS NOT NULL GROUP BY ALL
),
city AS (
    SELECT sum(c * (c - 1)) / nullif(sum(c) * (sum(c) - 1), 0) AS chance
    FROM (SELECT sbp, dbp, sum(c) AS c FROM pressure GROUP BY ALL)
)
SELECT org_code, doctor_id, sum(c) AS n, sum(c * (c - 1)) / 2 AS k,
    greatest(any_value(chance), 1e-6) * sum(c) * (sum(c) - 1) / 2 AS mean,
    arg_max(sbp || '/' || dbp, c) AS commonest, max(c) AS commonest_n
FROM (SELECT org_code, doctor_id, sbp::BIGINT AS sbp, dbp::BIGINT AS dbp, c FROM pressure), city
GROUP BY ALL HAVING sum(c) >= {identical_least_n};

-- copy: k pairs of records alike, of n that can be compared; a person's consecutive ones, and a day's different persons
CREATE OR REPLACE TEMP TABLE pair AS
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY kind, org_code, doctor_id, archive_id ORDER BY on_day, visit_id) AS nth
    FROM visit
),
paired AS (
    SELECT a.org_code, a.doctor_id, 'copy_person' AS test, a.fields AS f, b.fields AS g, a.numbers AS u, b.numbers AS v
    FROM numbered AS a INNER JOIN numbered AS b
        ON b.kind = a.kind AND b.org_code = a.org_code AND b.doctor_id = a.doctor_id
        AND b.archive_id = a.archive_id AND b.nth = a.nth + 1
    UNION ALL
    SELECT a.org_code, a.doctor_id, 'copy_day', a.fields, b.fields, a.numbers, b.numbers
    FROM visit AS a INNER JOIN visit AS b
        ON b.kind = a.kind AND b.org_code = a.org_code AND b.doctor_id = a.doctor_id AND b.on_day = a.on_day
        AND b.archive_id > a.archive_id
),
likened AS (
    SELECT org_code, doctor_id, test,
        len(list_filter(list_zip(f, g), lambda z: z[1] IS NOT NULL AND z[2] IS NOT NULL))
            + len(list_filter(list_zip(u, v), lambda z: z[1] IS NOT NULL AND z[2] IS NOT NULL)) AS filled,
        len(list_filter(list_zip(u, v), lambda z: z[1] IS NOT NULL AND z[2] IS NOT NULL)) AS continuous,
        len(list_filter(list_zip(f, g), lambda z: z[1] = z[2]))
            + len(list_filter(list_zip(u, v), lambda z: z[1] = z[2])) AS same
    FROM paired
)
SELECT org_code, doctor_id, test, same >= {copy_similarity} * filled AS is_alike
FROM likened WHERE filled >= {copy_least_fields} AND continuous >= {copy_least_continuous};

CREATE OR REPLACE TEMP TABLE m_copy AS
WITH each AS (
    SELECT org_code, doctor_id, test, count(*) AS n, count(*) FILTER (is_alike) AS k FROM pair GROUP BY ALL
)
SELECT *, (sum(k) OVER (PARTITION BY test) + 0.5) / (sum(n) OVER (PARTITION BY test) + 1) AS share
FROM each QUALIFY n >= {copy_least_pairs};

-- day: the busiest day's k visits, over n days with any, against the city's mean of a doctor's day
CREATE OR REPLACE TEMP TABLE m_day AS
WITH daily AS (SELECT org_code, doctor_id, on_day, count(*) AS c FROM visit GROUP BY ALL)
SELECT org_code, doctor_id, count(*) AS n, max(c) AS k, arg_max(on_day, c) AS busiest,
    (SELECT avg(c) FROM daily) AS mean
FROM daily GROUP BY ALL;

-- month_end: k of n visits in a month's last days, against the city's share of the same
CREATE OR REPLACE TEMP TABLE m_month_end AS
WITH each AS (
    SELECT org_code, doctor_id, count(*) AS n,
        count(*) FILTER (on_day > last_day(on_day) - {month_end_days}::INTEGER) AS k
    FROM visit GROUP BY ALL
)
SELECT *, (sum(k) OVER () + 0.5) / (sum(n) OVER () + 1) AS share FROM each QUALIFY n >= {month_end_least_n};
