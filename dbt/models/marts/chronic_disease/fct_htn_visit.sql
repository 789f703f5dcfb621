-- Hypertension follow-ups with the resident's token instead of the archive.
select
    {{ gold_key('visit.org_code', ['visit.visit_id']) }} as visit_key,
    visit.org_code,
    archive.person_token,
    visit.visited_on,
    visit.visit_way_code,
    visit.is_face_to_face,
    visit.sbp_mmhg,
    visit.dbp_mmhg,
    visit.visit_class_code,
    visit.med_compliance_code,
    visit.is_referred,
    visit.next_visit_on,
    visit.is_left_out as is_excluded
from {{ ref('stg_chronic_visit') }} as visit
left join {{ ref('stg_archive') }} as archive on visit.archive_id = archive.archive_id
where visit.disease = 'htn'
