-- Follow-ups of both diseases in one shape. Face to face is in the clinic (1) or at home (2), not by telephone (3).
with visit as (
    select
        'htn' as disease,
        htn.org_code,
        htn.visit_id,
        htn.archive_id,
        htn.visited_on,
        htn.visit_way_code,
        htn.sbp_mmhg,
        htn.dbp_mmhg,
        null::double as fbg_mmol_l,
        htn.visit_class_code,
        htn.med_compliance_code,
        htn.is_referred,
        htn.next_visit_on,
        htn.recorded_at,
        {{ is_left_out('chronic_disease', 'htn_visit', 'htn.org_code', ['htn.visit_id']) }} as is_left_out
    from {{ source('silver', 'htn_visit') }} as htn
    union all
    select
        'dm' as disease,
        dm.org_code,
        dm.visit_id,
        dm.archive_id,
        dm.visited_on,
        dm.visit_way_code,
        dm.sbp_mmhg,
        dm.dbp_mmhg,
        dm.fbg_mmol_l,
        dm.visit_class_code,
        dm.med_compliance_code,
        dm.is_referred,
        dm.next_visit_on,
        dm.recorded_at,
        {{ is_left_out('chronic_disease', 'dm_visit', 'dm.org_code', ['dm.visit_id']) }} as is_left_out
    from {{ source('silver', 'dm_visit') }} as dm
)

select
    visit.disease,
    visit.org_code,
    visit.visit_id,
    visit.archive_id,
    visit.visited_on,
    visit.visit_way_code,
    visit.visit_way_code in ('1', '2') as is_face_to_face,
    visit.sbp_mmhg,
    visit.dbp_mmhg,
    visit.fbg_mmol_l,
    visit.visit_class_code,
    visit.med_compliance_code,
    coalesce(visit.is_referred, false) as is_referred,
    visit.next_visit_on,
    visit.recorded_at,
    visit.is_left_out
from visit
where visit.visited_on <= {{ data_date() }}
