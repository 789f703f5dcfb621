-- The six cards of the wall, each with its change against the same weekday a week before.
with day_total as (
    select
        daily.visit_date,
        sum(daily.encounters) as encounters,
        sum(daily.encounters) filter (where daily.class_code = 'EMER') as emergencies,
        sum(daily.total_fee) / 10000 as total_fee,
        sum(daily.insurance_pay) / 10000 as insurance_pay
    from {{ ref('daily_encounter') }} as daily
    where daily.visit_date in ({{ data_date() }}, {{ data_date() }} - 7)
    group by daily.visit_date
),

compared_day (day) as (
    values ({{ data_date() }}), ({{ data_date() }} - 7)
),

-- In hospital at the end of a day: admitted by then and not discharged by then.
inpatient as (
    select
        compared_day.day,
        count(encounter.encounter_key) as inpatients
    from compared_day
    left join {{ ref('fct_encounter') }} as encounter
        on
            encounter.class_code = 'IMP'
            and compared_day.day >= encounter.started_on
            and (encounter.ended_on is null or encounter.ended_on > compared_day.day)
    group by compared_day.day
),

-- People, not cards: someone with both diseases counts once.
managed as (
    select
        compared_day.day,
        count(distinct coalesce(archive.person_token, card.archive_id)) as managed
    from compared_day
    left join {{ ref('stg_chronic_card') }} as card on {{ is_managed_on('card', 'compared_day.day') }}
    left join {{ ref('stg_archive') }} as archive on card.archive_id = archive.archive_id
    group by compared_day.day
),

measured as (
    select
        compared_day.day,
        coalesce(day_total.encounters, 0)::double as encounters,
        coalesce(day_total.emergencies, 0)::double as emergencies,
        inpatient.inpatients::double as inpatients,
        round(coalesce(day_total.total_fee, 0), 2)::double as total_fee,
        round(coalesce(day_total.insurance_pay, 0), 2)::double as insurance_pay,
        managed.managed::double as managed
    from compared_day
    left join day_total on compared_day.day = day_total.visit_date
    left join inpatient on compared_day.day = inpatient.day
    left join managed on compared_day.day = managed.day
),

card (ord, kpi_code, label_zh, unit_zh, product) as (
    values
    (1, 'encounters', '当日总诊疗人次', '人次', 'operations'),
    (2, 'emergencies', '急诊人次', '人次', 'operations'),
    (3, 'inpatients', '在院人数', '人', 'operations'),
    (4, 'total_fee', '医疗总费用', '万元', 'operations'),
    (5, 'insurance_pay', '医保基金支付', '万元', 'operations'),
    (6, 'managed', '慢病在管人数', '人', 'chronic_disease')
),

figure as (
    unpivot measured on encounters, emergencies, inpatients, total_fee, insurance_pay, managed
    into name kpi_code value amount
)

select
    card.ord,
    card.kpi_code,
    card.label_zh,
    now_figure.amount as value,
    card.unit_zh,
    case
        when before_figure.amount > 0
            then round(100 * (now_figure.amount - before_figure.amount) / before_figure.amount, 1)
    end as delta_pct,
    card.product,
    {{ data_date() }} as data_date
from card
inner join figure as now_figure on card.kpi_code = now_figure.kpi_code and now_figure.day = {{ data_date() }}
inner join figure as before_figure
    on card.kpi_code = before_figure.kpi_code and before_figure.day = {{ data_date() }} - 7
