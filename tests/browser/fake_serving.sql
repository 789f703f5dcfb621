-- Filled by str.format: seeds (folder), data_date.
CREATE SCHEMA gold; CREATE SCHEMA ops;
CREATE TEMP MACRO noise(key) AS (hash(key) % 1000) / 1000.0;
CREATE TEMP TABLE org AS SELECT * FROM read_csv('{seeds}/org.csv', all_varchar = true) WHERE org_level_code <> '0';
CREATE TEMP TABLE visit_class AS SELECT * FROM (VALUES ('AMB', '门诊', 1.0), ('EMER', '急诊', 0.22), ('IMP', '住院', 0.12))
    t (class_code, class_zh, weight);
CREATE TABLE gold.daily_encounter AS
SELECT day::DATE AS visit_date, org_code, org_name, org_short_name, org_level_code,
       CASE org_level_code WHEN '3' THEN '三级医院' WHEN '2' THEN '二级医院' ELSE '基层医疗机构' END AS org_level_zh, class_code, class_zh,
       ceil(CASE org_level_code WHEN '3' THEN 260 WHEN '2' THEN 70 + 12 * (hash(org_code) % 5) ELSE 9 + hash(org_code) % 14 END
            * weight * CASE WHEN isodow(day) > 5 THEN 0.62 ELSE 1 END * (0.85 + 0.3 * noise(org_code || day::VARCHAR || class_code)))::BIGINT AS encounters,
       encounters * (80 + 4000 * (class_code = 'IMP')::INT) * (0.8 + 0.4 * noise(day::VARCHAR || org_code)) AS total_fee,
       total_fee * (0.52 + 0.1 * noise(org_code || day::VARCHAR)) AS insurance_pay
FROM org, visit_class, generate_series(DATE '{data_date}' - INTERVAL 55 DAY, DATE '{data_date}', INTERVAL 1 DAY) d (day)
WHERE class_code = 'AMB' OR org_level_code <> '1';
CREATE TABLE gold.wall_kpi AS
WITH t AS (SELECT sum(encounters) AS n, sum(encounters) FILTER (class_code = 'EMER') AS e, sum(total_fee) AS fee,
                  sum(insurance_pay) / sum(total_fee) AS share FROM gold.daily_encounter WHERE visit_date = DATE '{data_date}')
SELECT ord, kpi_code, label_zh, value::DOUBLE AS value, unit_zh, delta_pct::DOUBLE AS delta_pct, DATE '{data_date}' AS data_date
FROM t, LATERAL (VALUES (1, 'encounters', '当日诊疗人次', n, '人次', 3.42), (2, 'emergency', '急诊人次', e, '人次', -1.08),
    (3, 'fee', '医疗总费用', round(fee / 10000, 2), '万元', 5.9), (4, 'insurance_share', '医保支付占比', round(100 * share, 2), '%', NULL),
    (5, 'htn_managed', '高血压在管人数', 2438, '人', 0.2), (6, 'residents', '主索引居民数', 20163, '人', 0.0))
    k (ord, kpi_code, label_zh, value, unit_zh, delta_pct);
CREATE TABLE gold.hourly_heat AS
SELECT w AS weekday_no, '周' || substr('一二三四五六日', w::INT, 1) AS weekday_zh, h AS hour,
       round((CASE WHEN w > 5 THEN 0.6 ELSE 1 END) * (12 + 420 * exp(-pow(h - 9.3, 2) / 5) + 260 * exp(-pow(h - 15, 2) / 5)
             + 40 * exp(-pow(h - 20, 2) / 6)) * (0.9 + 0.2 * noise(w::VARCHAR || h::VARCHAR)))::BIGINT AS encounters
FROM generate_series(1, 7) a (w), generate_series(0, 23) b (h);
CREATE TABLE gold.referral_flow AS
SELECT f.org_code AS from_org_code, f.org_name AS from_org_name, t.org_code AS to_org_code, t.org_name AS to_org_name, d.code AS direction_code, d.name_zh AS direction_zh,
       (3 + hash(f.org_code || t.org_code) % CASE d.code WHEN 'up' THEN 60 ELSE 22 END)::BIGINT AS referrals
FROM org f, org t, read_csv('{seeds}/codes/referral_direction.csv') d
WHERE CASE d.code WHEN 'up' THEN f.parent_org_code = t.org_code OR (f.org_level_code = '1' AND t.org_code = 'H001' AND hash(f.org_code) % 3 = 0)
      ELSE t.parent_org_code = f.org_code END;
CREATE TABLE gold.district_map AS
SELECT g.org_code, g.district_name, g.svg_path, g.label_x, g.label_y, (90 + hash(g.org_code) % 120)::BIGINT AS managed,
       (managed * (0.46 + (hash(g.org_code || 'r') % 45) / 100.0))::BIGINT AS standard_managed,
       standard_managed / managed AS standard_rate, '#0a7fc0' AS fill
FROM read_csv('{seeds}/district_geometry.csv') g;
CREATE TABLE gold.wall_alert AS
SELECT TIMESTAMPTZ '{data_date} 09:20:00+08' - to_minutes(i * 47) AS occurred_at, kind AS alert_kind, kind_zh, severity, org_short_name, org_short_name || ' ' || text_zh AS text_zh
FROM (SELECT row_number() OVER () - 1 AS i, org_short_name FROM org LIMIT 12) o
JOIN (VALUES (0, 'lab_critical', '危急值', 'error', '危急值：血钾 1 例'), (1, 'bp_no_referral', '未转诊', 'error', '随访血压≥180/110 未转诊：2 例'),
    (2, 'late_delivery', '数据迟交', 'warn', 'public_health 数据未送达，共 2 家机构'), (3, 'device_alarm', '设备报警', 'warn', '血氧饱和度过低报警：3 人')) k (n, kind, kind_zh, severity, text_zh) ON n = i % 4;
CREATE TABLE gold.chronic_management AS
SELECT disease, disease_zh, org_code, org_short_name, (60 + hash(org_code || disease) % 150)::BIGINT AS managed,
       (managed * (0.55 + (hash(org_code) % 35) / 100.0))::BIGINT AS standard_managed, (managed * (0.4 + (hash(disease || org_code) % 40) / 100.0))::BIGINT AS controlled,
       standard_managed / managed AS standard_rate, controlled / managed AS control_rate, (hash(org_code) % 4)::BIGINT AS excluded
FROM org, (VALUES ('htn', '高血压'), ('dm', '2型糖尿病')) d (disease, disease_zh) WHERE org_level_code = '1';
CREATE TABLE gold.indicator AS
SELECT code AS indicator_code, label AS label_zh, org_code, '2026-Q4' AS period, (hash(org_code || code) % 80 + 20)::BIGINT AS numerator, 120::BIGINT AS denominator,
       100.0 * numerator / denominator AS value, (hash(code || org_code) % 3)::BIGINT AS excluded, '%' AS unit_zh, DATE '{data_date}' AS data_date
FROM org, (VALUES ('ARC-01', '居民健康档案建档率'), ('HTN-01', '高血压规范管理率'), ('DM-01', '糖尿病规范管理率'), ('ELD-01', '老年人体检率')) i (code, label) WHERE org_level_code = '1';
CREATE TABLE gold.quality_score AS
SELECT org_code, org_short_name, 82 + (hash(org_code) % 180) / 10.0 AS score, (hash(org_code || 'f') % 300)::BIGINT AS open_findings,
       open_findings // 6 AS error_findings, DATE '{data_date}' AS data_date FROM org;
CREATE TABLE ops.publication AS
SELECT product, label_zh, DATE '{data_date}' AS data_date, 'open' AS gate, NULL::VARCHAR AS reason_zh, NULL::VARCHAR AS reason_en,
       TIMESTAMPTZ '{data_date} 18:05:00+08' AS published_at, 'run-{data_date}' AS run_id FROM read_csv('{seeds}/data_product.csv');
CREATE TABLE ops.run_info AS
SELECT DATE '{data_date}' AS data_date, 'run-{data_date}' AS run_id, 186420::BIGINT AS received, 184903::BIGINT AS loaded,
       1322::BIGINT AS duplicate, 195::BIGINT AS quarantined, 8241::BIGINT AS open_findings, 20163::BIGINT AS persons;
