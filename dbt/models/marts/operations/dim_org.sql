-- Institutions with the centre that answers for them: a station's work counts for its centre.
with level_label (org_level_code, org_level_zh) as (
    values ('3', '三级医院'), ('2', '二级医院'), ('1', '基层医疗机构'), ('0', '卫生室/站')
)

select
    org.org_code,
    org.org_name,
    org.org_short_name,
    org.org_level_code,
    level_label.org_level_zh,
    org.org_kind,
    org.parent_org_code,
    case when org.org_level_code = '0' then org.parent_org_code else org.org_code end as managing_org_code,
    org.org_level_code in ('0', '1') as is_primary_care,
    org.region_code,
    org.district_name,
    org.population_share,
    round(org.population_share * {{ city_residents() }})::bigint as residents
from {{ ref('org') }} as org
left join level_label on org.org_level_code = level_label.org_level_code
