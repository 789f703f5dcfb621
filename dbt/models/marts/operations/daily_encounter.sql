-- Visits and money by local day, institution and class. Fees count on the day the encounter began.
select
    encounter.started_on as visit_date,
    encounter.org_code,
    org.org_name,
    org.org_short_name,
    org.org_level_code,
    org.org_level_zh,
    encounter.class_code,
    coalesce(class.name_zh, encounter.class_code) as class_zh,
    count(*) as encounters,
    coalesce(sum(encounter.total_fee), 0)::double as total_fee,
    coalesce(sum(encounter.insurance_pay), 0)::double as insurance_pay
from {{ ref('fct_encounter') }} as encounter
left join {{ ref('dim_org') }} as org on encounter.org_code = org.org_code
left join {{ ref('encounter_class') }} as class on encounter.class_code = class.code
where not exists (
        select 1
        from {{ source('quality', 'exclusion') }} as left_out
        where
            left_out.product = 'operations'
            and left_out.table_name = 'encounter'
            and {{ gold_key('left_out.org_code', ['left_out.record_key']) }} = encounter.encounter_key
    )
group by all
