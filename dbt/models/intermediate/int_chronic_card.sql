-- One active card with what happened to it this year: follow-ups, the last one, the year's examination. A resident with
-- several archives is managed once per disease, with the services of all of them.
with card as (
    select
        card.disease,
        card.org_code,
        card.card_id,
        card.archive_id,
        card.carded_on,
        card.risk_level_code,
        archive.person_token,
        archive.birth_date,
        coalesce(several.counted_archive_id, card.archive_id) as counted_archive_id,
        card.is_left_out or coalesce(archive.is_out_of_chronic, false) as is_excluded
    from {{ ref('stg_chronic_card') }} as card
    left join {{ ref('stg_archive') }} as archive on card.archive_id = archive.archive_id
    left join {{ ref('int_several_archives') }} as several on card.archive_id = several.archive_id
    where {{ is_managed_on('card', data_date()) }}
    qualify card.archive_id = first_value(card.archive_id) over (
            partition by card.disease, coalesce(several.counted_archive_id, card.archive_id)
            order by
                card.archive_id = several.counted_archive_id desc nulls last,
                card.carded_on desc nulls last,
                card.archive_id asc
        )
),

year_visit as (
    select
        visit.disease,
        visit.counted_archive_id,
        count(distinct visit.visited_on)
        filter (where visit.is_face_to_face and not visit.is_left_out) as face_to_face_visits,
        count(*) filter (where not visit.is_left_out) as visits,
        count(*) filter (where visit.is_left_out) as excluded_visits
    from {{ ref('int_chronic_visit') }} as visit
    group by visit.disease, visit.counted_archive_id
),

-- The last follow-up of the year as a whole row: a blood pressure missing in it is missing, not taken from before.
last_visit as (
    select
        visit.disease,
        visit.counted_archive_id,
        visit.visited_on,
        visit.sbp_mmhg,
        visit.dbp_mmhg,
        visit.fbg_mmol_l,
        visit.visit_class_code,
        visit.med_compliance_code,
        visit.next_visit_on
    from {{ ref('int_chronic_visit') }} as visit
    where not visit.is_left_out
    qualify row_number() over (
            partition by visit.disease, visit.counted_archive_id
            order by visit.visited_on desc, visit.recorded_at desc, visit.visit_id desc
        ) = 1
),

last_exam as (
    select
        coalesce(several.counted_archive_id, exam.archive_id) as counted_archive_id,
        max(exam.exam_on) as last_exam_on
    from {{ source('silver', 'ph_exam') }} as exam
    left join {{ ref('int_several_archives') }} as several on exam.archive_id = several.archive_id
    where exam.exam_on <= {{ data_date() }}
    group by coalesce(several.counted_archive_id, exam.archive_id)
),

combined as (
    select
        card.disease,
        card.org_code,
        card.card_id,
        card.person_token,
        card.carded_on,
        card.risk_level_code,
        card.is_excluded,
        coalesce(year_visit.visits, 0) as visits,
        coalesce(year_visit.face_to_face_visits, 0) as face_to_face_visits,
        coalesce(year_visit.excluded_visits, 0) as excluded_visits,
        {{ visits_due('card.carded_on', data_date()) }} as visits_due,
        last_visit.visited_on as last_visit_on,
        last_visit.sbp_mmhg as last_sbp_mmhg,
        last_visit.dbp_mmhg as last_dbp_mmhg,
        last_visit.fbg_mmol_l as last_fbg_mmol_l,
        last_visit.visit_class_code as last_visit_class_code,
        last_visit.med_compliance_code as last_med_compliance_code,
        last_visit.next_visit_on,
        last_exam.last_exam_on,
        {{ age_on('card.birth_date', 'coalesce(last_visit.visited_on, ' ~ data_date() ~ ')') }} as age_years
    from card
    left join year_visit
        on card.disease = year_visit.disease and card.counted_archive_id = year_visit.counted_archive_id
    left join last_visit
        on card.disease = last_visit.disease and card.counted_archive_id = last_visit.counted_archive_id
    left join last_exam on card.counted_archive_id = last_exam.counted_archive_id
)

select
    combined.*,
    case
        when combined.age_years >= 65 then 150
        else 140
    end as sbp_limit_mmhg,
    combined.face_to_face_visits >= combined.visits_due
    and coalesce(greatest(combined.last_exam_on, combined.carded_on) > {{ data_date() }} - 365, false)
        as is_standard_managed,
    case
        when combined.disease = 'dm' then coalesce(combined.last_fbg_mmol_l < 7.0, false)
        when combined.age_years >= 65 then coalesce(combined.last_sbp_mmhg < 150 and combined.last_dbp_mmhg < 90, false)
        else coalesce(combined.last_sbp_mmhg < 140 and combined.last_dbp_mmhg < 90, false)
    end as is_controlled
from combined
