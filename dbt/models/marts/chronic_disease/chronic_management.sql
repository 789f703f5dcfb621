-- Management by disease and institution. Cards left out by a finding are in `excluded` and nowhere else.
select
    card.disease,
    case card.disease when 'htn' then '高血压' else '2型糖尿病' end as disease_zh,
    org.org_code,
    org.org_short_name,
    count(*) filter (where not card.is_excluded) as managed,
    count(*) filter (where not card.is_excluded and card.is_standard_managed) as standard_managed,
    count(*) filter (where not card.is_excluded and card.is_controlled) as controlled,
    count(*) filter (where not card.is_excluded and card.is_standard_managed)
    / nullif(count(*) filter (where not card.is_excluded), 0) as standard_rate,
    count(*) filter (where not card.is_excluded and card.is_controlled)
    / nullif(count(*) filter (where not card.is_excluded), 0) as control_rate,
    (count(*) filter (where card.is_excluded) + sum(card.excluded_visits))::bigint as excluded
from {{ ref('int_chronic_card') }} as card
inner join {{ ref('dim_org') }} as station on card.org_code = station.org_code
inner join {{ ref('dim_org') }} as org on station.managing_org_code = org.org_code
group by card.disease, org.org_code, org.org_short_name
