-- Who refers to whom, over the last 90 days. Rejected referrals moved nobody and are left out.
select
    referral.from_org_code,
    coalesce(from_org.org_name, referral.from_org_code) as from_org_name,
    referral.to_org_code,
    coalesce(to_org.org_name, referral.to_org_code) as to_org_name,
    referral.direction_code,
    coalesce(direction.name_zh, referral.direction_code) as direction_zh,
    count(*) as referrals
from {{ source('silver', 'referral') }} as referral
left join {{ ref('dim_org') }} as from_org on referral.from_org_code = from_org.org_code
left join {{ ref('dim_org') }} as to_org on referral.to_org_code = to_org.org_code
left join {{ ref('referral_direction') }} as direction on referral.direction_code = direction.code
where
    referral.status_code <> 'rejected'
    and {{ local_date('referral.applied_at') }} > {{ data_date() }} - 90
    and {{ local_date('referral.applied_at') }} <= {{ data_date() }}
group by all
