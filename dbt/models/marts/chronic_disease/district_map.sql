-- The city's map by centre, coloured by hypertension managed to standard: 70 % is the national target for 2030.
select
    geometry.org_code,
    geometry.district_name,
    geometry.svg_path,
    geometry.label_x,
    geometry.label_y,
    coalesce(management.managed, 0) as managed,
    coalesce(management.standard_managed, 0) as standard_managed,
    management.standard_rate,
    case
        when management.standard_rate is null then '#3a4a63'
        when management.standard_rate >= 0.7 then '#1fb6a6'
        when management.standard_rate >= 0.6 then '#f2a93b'
        else '#e5484d'
    end as fill
from {{ ref('district_geometry') }} as geometry
left join {{ ref('chronic_management') }} as management
    on geometry.org_code = management.org_code and management.disease = 'htn'
