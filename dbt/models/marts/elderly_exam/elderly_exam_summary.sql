-- One resident of 65 and over with the year's examination: whether it was done, and how complete it is. Who has several
-- archives stands here once, with the examinations of all of them.
with exam as (
    select
        ph_exam.*,
        coalesce(several.counted_archive_id, ph_exam.archive_id) as counted_archive_id,
        {{ is_left_out('elderly_exam', 'ph_exam', 'ph_exam.org_code', ['ph_exam.exam_id']) }} as is_left_out
    from {{ source('silver', 'ph_exam') }} as ph_exam
    left join {{ ref('int_several_archives') }} as several on ph_exam.archive_id = several.archive_id
    where ph_exam.exam_on >= {{ year_start() }} and ph_exam.exam_on <= {{ data_date() }}
),

excluded_exam as (
    select
        counted_archive_id,
        count(*) as excluded_exams
    from exam
    where is_left_out
    group by counted_archive_id
),

last_exam as (
    select *
    from exam
    where not is_left_out
    qualify row_number() over (
            partition by counted_archive_id
            order by exam_on desc, recorded_at desc, exam_id desc
        ) = 1
),

checked as (
    select
        {{ gold_key('archive.org_code', ['archive.archive_id']) }} as elder_key,
        archive.org_code,
        archive.person_token,
        archive.sex_code,
        archive.age_years,
        archive.is_out_of_elderly as is_excluded,
        coalesce(excluded_exam.excluded_exams, 0) as excluded_exams,
        last_exam.exam_on,
        coalesce(last_exam.sbp_r_mmhg, last_exam.sbp_l_mmhg) as sbp_mmhg,
        coalesce(last_exam.dbp_r_mmhg, last_exam.dbp_l_mmhg) as dbp_mmhg,
        last_exam.bmi,
        last_exam.fbg_mmol_l,
        last_exam.selfcare_grade_code,
        last_exam.eval_abnormal_code,
        -- concat_ws leaves nulls out, so only the missing items remain. DR and HbA1c are asked for since 2025.
        concat_ws(
            '、',
            if(last_exam.sbp_r_mmhg is null and last_exam.sbp_l_mmhg is null, '血压', null),
            if(last_exam.height_cm is null or last_exam.weight_kg is null, '身高体重', null),
            if(last_exam.hgb_g_l is null or last_exam.wbc_10_9_l is null, '血常规', null),
            if(last_exam.urine_protein is null, '尿常规', null),
            if(last_exam.fbg_mmol_l is null, '空腹血糖', null),
            if(last_exam.alt_u_l is null or last_exam.ast_u_l is null, '肝功能', null),
            if(last_exam.scr_umol_l is null or last_exam.bun_mmol_l is null, '肾功能', null),
            if(last_exam.tc_mmol_l is null or last_exam.tg_mmol_l is null, '血脂', null),
            if(last_exam.ecg_result_code is null, '心电图', null),
            if(last_exam.abd_us_result_code is null, '腹部B超', null),
            if(last_exam.chest_dr_result_code is null and last_exam.exam_on >= date '2025-01-01', '胸部DR', null),
            if(last_exam.hba1c_pct is null and last_exam.exam_on >= date '2025-01-01', '糖化血红蛋白', null),
            if(last_exam.selfcare_grade_code is null, '自理评估', null),
            if(last_exam.cog_screen_code is null, '认知粗筛', null),
            if(last_exam.eval_abnormal_code is null, '健康评价', null)
        ) as missing_items_zh
    from {{ ref('stg_archive') }} as archive
    left join last_exam on archive.archive_id = last_exam.counted_archive_id
    left join excluded_exam on archive.archive_id = excluded_exam.counted_archive_id
    where
        archive.is_active
        and archive.age_years >= 65
        and not exists (
            select 1 from {{ ref('int_several_archives') }} as several
            where archive.archive_id = several.archive_id and archive.archive_id <> several.counted_archive_id
        )
)

select
    checked.elder_key,
    checked.org_code,
    checked.person_token,
    checked.sex_code,
    least(checked.age_years, 90)::integer as age_years,
    checked.exam_on,
    checked.sbp_mmhg,
    checked.dbp_mmhg,
    checked.bmi,
    checked.fbg_mmol_l,
    checked.selfcare_grade_code,
    checked.eval_abnormal_code,
    checked.exam_on is not null as is_examined,
    -- 接受健康管理: examined, assessed and evaluated
    checked.exam_on is not null
    and checked.selfcare_grade_code is not null
    and checked.eval_abnormal_code is not null as is_health_managed,
    checked.exam_on is not null and checked.missing_items_zh = '' as is_complete,
    case
        when checked.exam_on is null then null
        when checked.missing_items_zh = '' then 0
        else len(string_split(checked.missing_items_zh, '、'))
    end::integer as missing_count,
    if(checked.exam_on is null, null, checked.missing_items_zh) as missing_items_zh,
    checked.is_excluded,
    checked.excluded_exams
from checked
