-- Gold tables by hand, with the columns of dbt/models/marts. Filled by str.format: day, salt, persons, seeds.
CREATE OR REPLACE TABLE gold.daily_encounter AS
    SELECT DATE '{day}' - i::INT AS visit_date, 'H001' AS org_code, '总医院' AS org_short_name, 100 + i + {salt} AS encounters
    FROM range(28) t(i);
CREATE OR REPLACE TABLE gold.chronic_management AS
    SELECT disease, 'C2' || lpad(i::VARCHAR, 2, '0') AS org_code, 50 + i + {salt} AS managed, 30 + i AS standard_managed
    FROM range(1, 19) t(i), (VALUES ('htn'), ('dm')) d(disease);
CREATE OR REPLACE TABLE gold.wall_kpi AS
    SELECT * FROM (VALUES (1, '当日总诊疗人次', 900.0 + {salt}, 'operations', DATE '{day}'),
        (6, '慢病在管人数', 1700.0 + {salt}, 'chronic_disease', DATE '{day}')) t(ord, label_zh, value, product, data_date);
CREATE OR REPLACE TABLE gold.wall_alert AS
    SELECT TIMESTAMPTZ '{day} 03:00:00+00' AS occurred_at, 'critical' AS alert_kind, '湖滨中心有1条危急值' AS text_zh;
CREATE OR REPLACE TABLE gold.dim_org AS SELECT *,
    CASE WHEN org_level_code = '0' THEN parent_org_code ELSE org_code END AS managing_org_code
    FROM read_csv('{seeds}/org.csv', all_varchar = true, header = true);
CREATE OR REPLACE TABLE gold.dim_person AS
    SELECT 'TOKEN' || lpad(i::VARCHAR, 5, '0') AS person_token, (1 + i % 2)::VARCHAR AS sex_code,
        (1950 + i % 40)::INTEGER AS birth_year, (76 - i % 40)::INTEGER AS age_years,
        ['429701', '429702', '429703', '429704'][1 + i % 4] AS county_code,
        'C2' || lpad((1 + i % 18)::VARCHAR, 2, '0') AS managing_org_code, true AS has_archive, i % 97 = 0 AS is_deceased,
        i % 3 = 0 AS has_htn_card, i % 7 = 0 AS has_dm_card
    FROM range({persons}) t(i);
CREATE OR REPLACE TABLE gold.htn_management AS
    SELECT md5(person_token) AS card_key, managing_org_code AS org_code, person_token, age_years,
        DATE '{day}' - (birth_year - 1900)::INT AS carded_on, (1 + birth_year % 4)::VARCHAR AS risk_level_code,
        3::BIGINT AS visits, 2::BIGINT AS face_to_face_visits, 3 AS visits_due,
        CASE WHEN birth_year % 5 > 0 THEN DATE '{day}' - (birth_year % 60)::INT END AS last_visit_on,
        CASE WHEN birth_year % 5 > 0 THEN 120.0 + birth_year % 45 END AS last_sbp_mmhg,
        CASE WHEN birth_year % 5 > 0 THEN 70.0 + birth_year % 25 END AS last_dbp_mmhg, 140 AS sbp_limit_mmhg,
        '1' AS last_visit_class_code, '1' AS last_med_compliance_code, DATE '{day}' + 30 AS next_visit_on,
        NULL::DATE AS last_exam_on, birth_year % 3 = 0 AS is_standard_managed, birth_year % 2 = 0 AS is_controlled,
        birth_year % 19 = 0 AS is_excluded, 0::BIGINT AS excluded_visits
    FROM gold.dim_person WHERE has_htn_card;
CREATE OR REPLACE TABLE gold.dm_management AS
    SELECT md5('d' || person_token) AS card_key, managing_org_code AS org_code, person_token, age_years,
        false AS is_controlled, true AS is_standard_managed, false AS is_excluded
    FROM gold.dim_person WHERE has_dm_card;
CREATE OR REPLACE TABLE gold.fct_lab_result AS
    SELECT md5('l' || i) AS result_key, 'H101' AS org_code, 'TOKEN' || lpad((i % {persons})::VARCHAR, 5, '0') AS person_token,
        'LDL' AS item_code, '22748-8' AS loinc_code, 1.5 + (i * 37 % 400) / 100 AS value_num, 'mmol/L' AS unit,
        NULL::VARCHAR AS comparator, DATE '{day}' - (i % 500)::INT AS reported_on
    FROM range(2 * {persons}) t(i);
CREATE OR REPLACE TABLE gold.fct_encounter AS
    SELECT md5('e' || i) AS encounter_key, 'H001' AS org_code, 'TOKEN' || lpad((i * 13 % {persons})::VARCHAR, 5, '0') AS person_token,
        ['AMB', 'EMER', 'IMP'][1 + i % 3] AS class_code, ['I10', 'E11.9', 'J06.9', 'I63.9'][1 + i % 4] AS main_icd10_code,
        DATE '{day}' - (i % 700)::INT AS started_on
    FROM range({persons}) t(i);
CREATE OR REPLACE TABLE gold.catalog_asset AS
    SELECT * FROM (VALUES ('gold.htn_management', '高血压在管卡与年内管理', 'Active hypertension cards', 'gold', 'chronic_disease',
        'chronic_disease', '数据日期在管的一份高血压管理卡', '公共卫生科', 3, '一般数据', 1200::BIGINT, 786432::BIGINT, DATE '{day}',
        'silver.htn_card, silver.htn_visit, silver.ph_exam', 'gold.chronic_management', 97.4, 31::BIGINT, '高血压在管卡 / Cards'),
        ('silver.person', '居民主索引', 'Residents', 'silver', 'empi', '', '一名居民', 'empi', 4, '一般数据', 20000::BIGINT,
        2986432::BIGINT, DATE '{day}', '', 'gold.dim_person, gold.htn_management', NULL, 0::BIGINT, 'One row per resident'))
        t(asset_id, name_zh, name_en, layer, domain, product, grain_zh, owner, level, national_grade, row_count, bytes,
          freshness, upstream, downstream, quality_score, open_findings, description);
CREATE OR REPLACE TABLE gold.catalog_field AS
    SELECT * FROM (VALUES ('silver.person', 1, 'name', '姓名', 'Name', 'VARCHAR', '', '', 4, true, false, 'Patient.name', 'WS 445'))
        t(asset_id, ord, field, label_zh, description, type, unit, code_system, level, required, is_key, fhir_path, source_standard);
