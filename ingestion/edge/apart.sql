-- Persons registered at two institutions while one of them was cut off and so could not see the other's registration.
-- ``apart`` holds the times apart: node, orgs (the node's institutions), from_at and to_at (UTC, with the margin).
CREATE OR REPLACE TEMP TABLE registered AS
SELECT
    'ph_archive' AS table_name, org_code, archive_id AS record_key, upper(trim(id_no)) AS id_no, name, birth_date, sex_code,
    coalesce(CAST(created_on AS TIMESTAMP) AT TIME ZONE 'Asia/Shanghai', source_updated_at) AS registered_at
FROM {ph_archive}
UNION ALL
SELECT 'patient', org_code, patient_local_id, upper(trim(id_no)), name, birth_date, sex_code, source_updated_at
FROM {patient};

CREATE OR REPLACE TEMP TABLE during AS
SELECT r.*, r.table_name || '/' || r.org_code || '|' || r.record_key AS place, a.node, a.from_at, list_contains(a.orgs, r.org_code) AS is_away
FROM registered AS r
INNER JOIN apart AS a ON r.registered_at BETWEEN a.from_at AND a.to_at;

-- Equality joins, one a way of being the same: a disjunction would compare everybody with everybody.
CREATE OR REPLACE TEMP TABLE pair AS
SELECT x.place AS one, y.place AS other, x.org_code, y.org_code AS other_org, greatest(x.registered_at, y.registered_at) AS registered_at, true AS same_id
FROM during AS x
INNER JOIN during AS y ON x.node = y.node AND x.from_at = y.from_at AND x.id_no = y.id_no
WHERE x.is_away AND NOT y.is_away AND length(x.id_no) >= 15
UNION ALL
SELECT x.place, y.place, x.org_code, y.org_code, greatest(x.registered_at, y.registered_at), false
FROM during AS x
INNER JOIN during AS y
    ON x.node = y.node AND x.from_at = y.from_at AND x.name = y.name AND x.birth_date = y.birth_date AND x.sex_code = y.sex_code
WHERE x.is_away AND NOT y.is_away;

CREATE OR REPLACE TEMP TABLE twin AS
SELECT
    least(one, other) AS one, greatest(one, other) AS other, arg_min(org_code, one) AS org_code, bool_or(same_id) AS same_id, max(registered_at) AS registered_at
FROM pair
GROUP BY least(one, other), greatest(one, other)
