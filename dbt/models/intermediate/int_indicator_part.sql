-- Numerator, denominator and left-out records of each indicator at each institution: what adds up.
-- A resident's archive is in use when something was written for them within a year.
with contact as (
    select record.person_token
    from {{ ref('fct_encounter') }} as record
    where record.started_on > {{ data_date() }} - 365
    union
    select archive.person_token
    from {{ ref('stg_chronic_visit') }} as visit
    inner join {{ ref('stg_archive') }} as archive on visit.archive_id = archive.archive_id
    where visit.visited_on > {{ data_date() }} - 365
    union
    select archive.person_token
    from {{ source('silver', 'ph_exam') }} as exam
    inner join {{ ref('stg_archive') }} as archive on exam.archive_id = archive.archive_id
    where exam.exam_on > {{ data_date() }} - 365 and exam.exam_on <= {{ data_date() }}
),

archive as (
    select
        org.managing_org_code as org_code,
        count(*) filter (where not archive.is_out_of_archive) as archives,
        count(*) filter (where not archive.is_out_of_archive and contact.person_token is not null) as in_use,
        count(*) filter (where archive.is_out_of_archive) as excluded
    from {{ ref('stg_archive') }} as archive
    inner join {{ ref('dim_org') }} as org on archive.org_code = org.org_code
    left join contact on archive.person_token = contact.person_token
    where archive.is_active
    group by org.managing_org_code
),

elder as (
    select
        org.managing_org_code as org_code,
        count(*) filter (where not elder.is_excluded) as elders,
        count(*) filter (where not elder.is_excluded and elder.is_health_managed) as health_managed,
        (count(*) filter (where elder.is_excluded) + sum(elder.excluded_exams))::bigint as excluded
    from {{ ref('elderly_exam_summary') }} as elder
    inner join {{ ref('dim_org') }} as org on elder.org_code = org.org_code
    group by org.managing_org_code
),

-- Visits count on the day they begin, stays on the day they end.
visit as (
    select
        org.managing_org_code as org_code,
        encounter.class_code = 'IMP' as is_stay,
        encounter.class_code = 'AMB' as is_clinic,
        encounter.encounter_key,
        coalesce(encounter.total_fee, 0) as total_fee,
        coalesce(encounter.insurance_pay, 0) as insurance_pay,
        greatest(date_diff('day', encounter.started_on, encounter.ended_on), 1) as stay_days
    from {{ ref('fct_encounter') }} as encounter
    inner join {{ ref('dim_org') }} as org on encounter.org_code = org.org_code
    where
        case when encounter.class_code = 'IMP' then encounter.ended_on else encounter.started_on end
        between {{ year_start() }} and {{ data_date() }}
),

activity as (
    select
        visit.org_code,
        count(*) filter (where not visit.is_stay) as visits,
        count(*) filter (where visit.is_clinic) as clinic_visits,
        count(*) filter (where visit.is_stay) as stays,
        coalesce(sum(visit.total_fee) filter (where visit.is_clinic), 0) as clinic_fee,
        coalesce(sum(visit.total_fee) filter (where visit.is_stay), 0) as stay_fee,
        coalesce(sum(visit.insurance_pay) filter (where visit.is_stay), 0) as stay_insurance,
        coalesce(sum(visit.stay_days) filter (where visit.is_stay), 0) as stay_days,
        sum(visit.insurance_pay) as insurance_pay
    from visit
    group by visit.org_code
),

referral as (
    select
        org.managing_org_code as org_code,
        count(*) as referrals,
        count(*) filter (where referral.status_code = 'completed') as completed,
        count(*) filter (where referral.direction_code = 'down') as down
    from {{ source('silver', 'referral') }} as referral
    inner join {{ ref('dim_org') }} as org on referral.from_org_code = org.org_code
    where {{ local_date('referral.applied_at') }} between {{ year_start() }} and {{ data_date() }}
    group by org.managing_org_code
),

prescription as (
    select
        item.org_code,
        item.rx_no,
        bool_or(coalesce(item.is_antibiotic, false)) as has_antibiotic
    from {{ source('silver', 'prescription_item') }} as item
    inner join {{ source('silver', 'encounter') }} as encounter
        on
            item.org_code = encounter.org_code
            and item.encounter_id = encounter.encounter_id
            and encounter.class_code = 'AMB'
    where {{ local_date('item.rx_at') }} between {{ year_start() }} and {{ data_date() }}
    group by item.org_code, item.rx_no
),

antibiotic as (
    select
        prescription.org_code,
        count(*) filter (where prescription.has_antibiotic) as with_antibiotic,
        count(*) as prescriptions
    from prescription
    group by prescription.org_code
),

judged as (
    select
        scorecard.org_code,
        sum(scorecard.findings) as findings,
        sum(scorecard.eligible) as eligible
    from {{ source('quality', 'scorecard') }} as scorecard
    where
        scorecard.domain <> 'ALL'  -- the check's own sum over the domains
        and scorecard.data_date = (
            select max(newest.data_date)
            from {{ source('quality', 'scorecard') }} as newest
            where newest.data_date <= {{ data_date() }}
        )
    group by scorecard.org_code
),

part as (
    select
        figure.indicator_code,
        management.org_code,
        figure.num,
        figure.den,
        management.excluded
    from {{ ref('chronic_management') }} as management
    cross join
        lateral (
            values
            (if(management.disease = 'htn', 'PH09', 'PH11'), management.standard_managed, management.managed),
            (if(management.disease = 'htn', 'PH10', 'PH12'), management.controlled, management.managed)
        ) as figure (indicator_code, num, den)
    union all
    select
        figure.indicator_code,
        org.org_code,
        figure.num,
        figure.den,
        figure.excluded
    from {{ ref('dim_org') }} as org
    left join archive on org.org_code = archive.org_code
    left join elder on org.org_code = elder.org_code
    left join judged on org.org_code = judged.org_code
    cross join
        lateral (
            values
            ('PH01', coalesce(archive.archives, 0), org.residents, coalesce(archive.excluded, 0)),
            ('PH03', archive.in_use, archive.archives, archive.excluded),
            ('PH08', elder.health_managed, elder.elders, elder.excluded),
            ('PH23', judged.eligible - judged.findings, judged.eligible, 0)
        ) as figure (indicator_code, num, den, excluded)
    union all
    select
        figure.indicator_code,
        org.org_code,
        figure.num,
        figure.den,
        0 as excluded
    from {{ ref('dim_org') }} as org
    left join activity on org.org_code = activity.org_code
    left join referral on org.org_code = referral.org_code
    left join antibiotic on org.org_code = antibiotic.org_code
    cross join lateral (
        values
        ('MG02', if(org.is_primary_care, activity.visits, 0), activity.visits),
        ('MG03', coalesce(referral.down, 0), if(org.org_kind = 'lead_hospital', activity.stays, 0)),
        ('MG11', if(org.is_primary_care, activity.insurance_pay, 0), activity.insurance_pay),
        ('MG13', activity.stay_insurance, activity.stay_fee),
        ('MG14', coalesce(referral.referrals, 0), activity.visits + activity.stays),
        ('MG15', referral.completed, referral.referrals),
        ('CL03', antibiotic.with_antibiotic, antibiotic.prescriptions),
        ('CL07', activity.stay_days, activity.stays),
        ('CL09', activity.clinic_fee, activity.clinic_visits),
        ('CL10', activity.stay_fee, activity.stays)
    ) as figure (indicator_code, num, den)
)

select
    part.indicator_code,
    part.org_code,
    part.num::double as numerator,
    part.den::double as denominator,
    part.excluded::bigint as excluded
from part
where part.den > 0 or part.excluded > 0
