-- Follow-ups of the year by the archive that counts: one that two archives of a resident report for the same disease
-- and day is one follow-up, that of the archive that counts if it has it.
with repeated as (
    select
        visit.disease,
        visit.org_code,
        visit.visit_id
    from {{ ref('stg_chronic_visit') }} as visit
    inner join {{ ref('int_several_archives') }} as several on visit.archive_id = several.archive_id
    where visit.visited_on >= {{ year_start() }}
    qualify visit.archive_id <> first_value(visit.archive_id) over (
            partition by visit.disease, several.counted_archive_id, visit.visited_on
            order by
                visit.is_left_out asc,
                visit.is_face_to_face desc,
                visit.archive_id = several.counted_archive_id desc,
                visit.archive_id asc
        )
)

select
    visit.disease,
    visit.org_code,
    visit.visit_id,
    coalesce(several.counted_archive_id, visit.archive_id) as counted_archive_id,
    visit.visited_on,
    visit.is_face_to_face,
    visit.sbp_mmhg,
    visit.dbp_mmhg,
    visit.fbg_mmol_l,
    visit.visit_class_code,
    visit.med_compliance_code,
    visit.next_visit_on,
    visit.recorded_at,
    visit.is_left_out
from {{ ref('stg_chronic_visit') }} as visit
left join {{ ref('int_several_archives') }} as several on visit.archive_id = several.archive_id
where
    visit.visited_on >= {{ year_start() }}
    and not exists (
        select 1 from repeated
        where
            visit.disease = repeated.disease
            and visit.org_code = repeated.org_code
            and visit.visit_id = repeated.visit_id
    )
