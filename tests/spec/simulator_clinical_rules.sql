-- The rules on services, each as the condition under which a row of the table breaks it (tests/spec/simulator_clinical_oracle.py).
-- `-- RULE table[, table]` heads the condition that follows.

-- HTN-001 htn_card
carded_on < birth_date + INTERVAL 35 YEAR

-- HTN-003 htn_visit
visited_on - prev_on > 100 OR (visited_on - prev_on < 14 AND prev_class = '1')

-- HTN-004 htn_visit
(sbp_mmhg < goal AND dbp_mmhg < 90 AND visit_class_code = '2') OR ((sbp_mmhg >= goal OR dbp_mmhg >= 90) AND
visit_class_code = '1')

-- HTN-006 htn_visit
visit_class_code IN ('2','3') AND coalesce(prev_class, '1') = '1' AND coalesce(next_seen_on - visited_on >
14, true) AND $end > visited_on + 14 + 4

-- HTN-007 htn_visit
((visit_class_code IN ('2','3') AND prev_class IN ('2','3')) OR visit_class_code = '4') AND NOT is_referred

-- HTN-016 htn_visit
sbp_mmhg = prev_sbp_mmhg AND dbp_mmhg = prev_dbp_mmhg AND heart_rate_bpm = prev_heart_rate_bpm AND weight_kg
= prev_weight_kg AND salt_level_code = prev_salt_level_code AND exercise_min = prev_exercise_min AND drugs =
prev_drugs

-- HTN-022 htn_visit, dm_visit
count(*) OVER (PARTITION BY archive_id, visited_on) > 1

-- HTN-009 htn_visit, dm_visit
next_visit_on <= visited_on OR next_visit_on - visited_on > CASE visit_class_code WHEN '1' THEN 95 ELSE 14
END

-- HTN-021 htn_visit, dm_visit, ph_exam
CAST(recorded_at AS DATE) < visited_on OR CAST(recorded_at AS DATE) - visited_on > 30

-- DM-001 dm_card
carded_on < birth_date + INTERVAL 35 YEAR OR dm_type_code <> '2'

-- DM-003 dm_visit
(fbg_mmol_l < 7 AND visit_class_code = '2') OR (fbg_mmol_l >= 7 AND visit_class_code = '1')

-- DM-004 dm_visit
(fbg_mmol_l >= 16.7 OR coalesce(rbg_mmol_l, 0) >= 16.7 OR fbg_mmol_l <= 3.9 OR sbp_mmhg >= 180 OR dbp_mmhg
>= 110) AND (NOT is_referred OR (coalesce(next_seen_on - visited_on > 14, true) AND $end > visited_on + 14 +
4))

-- DM-005 dm_visit
fbg_mmol_l NOT BETWEEN 1 AND 35 OR ppg_mmol_l NOT BETWEEN 1 AND 45

-- DM-005 ph_exam
fbg_mmol_l NOT BETWEEN 1 AND 35

-- DM-006 dm_visit
ppg_mmol_l < fbg_mmol_l - 1

-- DM-008 dm_visit, ph_exam
hba1c_pct NOT BETWEEN 3 AND 20

-- DM-010 dm_visit
hypoglycemia_code = '3' AND visit_class_code = '1'

-- DM-013 dm_visit
(visit_class_code IN ('2','3') AND coalesce(prev_class, '1') = '1' AND coalesce(next_seen_on - visited_on >
14, true) AND $end > visited_on + 14 + 4) OR (((visit_class_code IN ('2','3') AND prev_class IN ('2','3'))
OR visit_class_code = '4') AND NOT is_referred)

-- DM-015 dm_visit
EXISTS (FROM htn_visit AS h WHERE h.archive_id = dm_visit.archive_id AND h.visited_on = dm_visit.visited_on
AND (h.sbp_mmhg <> dm_visit.sbp_mmhg OR h.dbp_mmhg <> dm_visit.dbp_mmhg OR h.weight_kg <>
dm_visit.weight_kg))

-- EXM-001 ph_exam
sbp_l_mmhg NOT BETWEEN 80 AND 220 OR sbp_r_mmhg NOT BETWEEN 80 AND 220

-- EXM-003 ph_exam
sbp_l_mmhg - dbp_l_mmhg NOT BETWEEN 15 AND 120 OR sbp_r_mmhg - dbp_r_mmhg NOT BETWEEN 15 AND 120

-- EXM-003 htn_visit, dm_visit
sbp_mmhg - dbp_mmhg NOT BETWEEN 15 AND 120

-- EXM-006 ph_exam, htn_visit, dm_visit
abs(bmi - weight_kg / (height_cm / 100) ** 2) > 0.2

-- EXM-007 ph_exam
weight_kg / (height_cm / 100) ** 2 > 40 AND weight_kg / 2 / (height_cm / 100) ** 2 BETWEEN 17 AND 32

-- EXM-014 ph_exam
selfcare_score <> selfcare_eat + selfcare_wash + selfcare_dress + selfcare_toilet + selfcare_move OR
selfcare_grade_code <> CASE WHEN selfcare_score <= 3 THEN '1' WHEN selfcare_score <= 8 THEN '2' WHEN
selfcare_score <= 18 THEN '3' ELSE '4' END

-- EXM-018 ph_exam
age >= 65 AND exam_type_code = 'elder' AND (elder_health_self_code IS NULL OR selfcare_grade_code IS NULL OR
cog_screen_code IS NULL OR emo_screen_code IS NULL)

-- EXM-019 ph_exam
exam_type_code = 'elder' AND (hgb_g_l IS NULL OR wbc_10_9_l IS NULL OR plt_10_9_l IS NULL OR urine_protein
IS NULL OR alt_u_l IS NULL OR ast_u_l IS NULL OR tbil_umol_l IS NULL OR scr_umol_l IS NULL OR bun_mmol_l IS
NULL OR fbg_mmol_l IS NULL OR tc_mmol_l IS NULL OR tg_mmol_l IS NULL OR ldl_mmol_l IS NULL OR hdl_mmol_l IS
NULL OR ecg_result_code IS NULL OR abd_us_result_code IS NULL OR (exam_on >= DATE '2025-01-01' AND
(chest_dr_result_code IS NULL OR hba1c_pct IS NULL)))

-- EXM-022 ph_exam
eval_abnormal_code = '1' AND (greatest(sbp_l_mmhg, sbp_r_mmhg) >= 140 OR greatest(dbp_l_mmhg, dbp_r_mmhg) >=
90 OR fbg_mmol_l >= 7 OR bmi >= 28 OR hgb_g_l < 90 OR scr_umol_l > 133 OR ecg_result_code = '2' OR
urine_protein IN ('+','++','+++'))

-- EXM-025 ph_exam
age >= 20 AND abs(height_cm - prev_height_cm) > 3 AND exam_on - prev_on < 550

-- EXM-026 ph_exam
sbp_l_mmhg IS NOT DISTINCT FROM prev_sbp_l_mmhg AND dbp_l_mmhg IS NOT DISTINCT FROM prev_dbp_l_mmhg AND
weight_kg IS NOT DISTINCT FROM prev_weight_kg AND waist_cm IS NOT DISTINCT FROM prev_waist_cm AND fbg_mmol_l
IS NOT DISTINCT FROM prev_fbg_mmol_l AND tc_mmol_l IS NOT DISTINCT FROM prev_tc_mmol_l AND tg_mmol_l IS NOT
DISTINCT FROM prev_tg_mmol_l AND alt_u_l IS NOT DISTINCT FROM prev_alt_u_l AND scr_umol_l IS NOT DISTINCT
FROM prev_scr_umol_l AND hgb_g_l IS NOT DISTINCT FROM prev_hgb_g_l
