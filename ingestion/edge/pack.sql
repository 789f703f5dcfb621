-- The group's residents as nodes are given them, made once for all nodes; each node then gets what its institutions
-- delivered, and nothing else. :as_of is the day of the pack; :drug_days and :ahead_days are parameters.

-- One key per person: the master index's, or the record's own while the index does not know it.
CREATE OR REPLACE TEMP TABLE indexed AS
SELECT source_system, org_code, identifier_value, min(empi_id) AS empi_id
FROM {person_identifier}
WHERE identifier_type = 'MR' AND valid_to IS NULL
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE record AS
SELECT
    coalesce(i.empi_id, 'archive|' || a.org_code || '|' || a.archive_id) AS person, a.org_code, a.addr_region_code AS region,
    a.archive_id, NULL AS patient_local_id, a.name, a.sex_code, a.birth_date, a.id_type_code, a.id_no, NULL AS health_card_no,
    a.phone, coalesce(a.is_dead, false) AS is_dead, 0 AS rank, a.source_updated_at AS told_at
FROM {ph_archive} AS a
LEFT JOIN indexed AS i
    ON i.source_system = 'public_health' AND i.org_code = a.org_code AND i.identifier_value = a.archive_id
UNION ALL
SELECT
    coalesce(i.empi_id, 'patient|' || p.org_code || '|' || p.patient_local_id), p.org_code, NULL,
    NULL, p.patient_local_id, p.name, p.sex_code, p.birth_date, p.id_type_code, p.id_no, p.health_card_no,
    p.phone, false, 1, p.source_updated_at
FROM {patient} AS p
LEFT JOIN indexed AS i
    ON i.source_system = 'his' AND i.org_code = p.org_code AND i.identifier_value = p.patient_local_id;

CREATE OR REPLACE TEMP TABLE allergy_of AS
SELECT r.person, a.org_code, r.region, trim(unnest(string_split_regex(a.drug_allergy, '[,，;；、]'))) AS allergy
FROM {ph_archive} AS a
INNER JOIN record AS r ON r.archive_id = a.archive_id AND r.org_code = a.org_code
WHERE a.drug_allergy IS NOT NULL AND trim(a.drug_allergy) NOT IN ('', '无', '1')
UNION ALL
SELECT r.person, a.org_code, NULL, a.allergen_name
FROM {allergy} AS a
INNER JOIN record AS r ON r.patient_local_id = a.patient_local_id AND r.org_code = a.org_code
WHERE a.allergen_name IS NOT NULL;

-- What was written at the last follow-up, and what was prescribed and is not used up.
CREATE OR REPLACE TEMP TABLE visit AS
SELECT 'htn' AS programme, org_code, archive_id, visited_on, next_visit_on, drugs FROM {htn_visit}
UNION ALL
SELECT 'dm', org_code, archive_id, visited_on, next_visit_on, drugs FROM {dm_visit};

CREATE OR REPLACE TEMP TABLE last_visit AS
SELECT v.*, r.person, r.region
FROM visit AS v
INNER JOIN record AS r ON r.archive_id = v.archive_id AND r.org_code = v.org_code
QUALIFY row_number() OVER (PARTITION BY r.person, v.programme, v.org_code ORDER BY v.visited_on DESC) = 1;

CREATE OR REPLACE TEMP TABLE drug_of AS
SELECT person, org_code, region, programme AS source, drugs AS drug, visited_on AS since
FROM last_visit
WHERE drugs IS NOT NULL AND trim(drugs) <> '' AND visited_on >= DATE ':as_of' - :drug_days
UNION ALL
SELECT
    r.person, i.org_code, NULL, 'rx',
    trim(concat_ws(' ', i.drug_name, concat(i.dose, i.dose_unit), i.freq_code)), CAST(i.rx_at AT TIME ZONE 'Asia/Shanghai' AS DATE)
FROM {prescription_item} AS i
INNER JOIN {encounter} AS e ON e.encounter_id = i.encounter_id AND e.org_code = i.org_code
INNER JOIN record AS r ON r.patient_local_id = e.patient_local_id AND r.org_code = e.org_code
WHERE
    i.drug_name IS NOT NULL
    AND CAST(i.rx_at AT TIME ZONE 'Asia/Shanghai' AS DATE) + CAST(coalesce(i.days, :drug_days) AS INTEGER) >= DATE ':as_of';

CREATE OR REPLACE TEMP TABLE active_card AS
SELECT 'htn' AS programme, org_code, archive_id FROM {htn_card} WHERE status_code = 'active'
UNION ALL
SELECT 'dm', org_code, archive_id FROM {dm_card} WHERE status_code = 'active';

CREATE OR REPLACE TEMP TABLE due_of AS
SELECT v.person, v.org_code, v.region, v.programme, v.next_visit_on AS due_on, v.visited_on AS last_on
FROM last_visit AS v
SEMI JOIN active_card AS c ON c.programme = v.programme AND c.archive_id = v.archive_id AND c.org_code = v.org_code
WHERE v.next_visit_on <= DATE ':as_of' + :ahead_days
