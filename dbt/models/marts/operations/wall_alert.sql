-- What needs somebody's eye, as counts per institution; no event names a person. The newest twenty.
with lab_critical as (
    select
        max(result.reported_at) as occurred_at,
        'lab_critical' as alert_kind,
        '危急值' as kind_zh,
        'error' as severity,
        result.org_code,
        coalesce(result.item_name, result.item_code) || '危急值 ' || count(*) || ' 例' as text_zh
    from {{ ref('stg_lab_result') }} as result
    where result.abnormal_flag in ('HH', 'LL') and result.reported_on > {{ data_date() }} - 7
    group by result.org_code, result.reported_on, coalesce(result.item_name, result.item_code)
),

-- 180/110 or above asks for referral at once (national specification, hypertension).
bp_no_referral as (
    select
        max(visit.recorded_at) as occurred_at,
        'bp_no_referral' as alert_kind,
        '未转诊' as kind_zh,
        'error' as severity,
        visit.org_code,
        '随访血压≥180/110 未转诊 ' || count(*) || ' 例' as text_zh
    from {{ ref('stg_chronic_visit') }} as visit
    where
        visit.visited_on > {{ data_date() }} - 30
        and (visit.sbp_mmhg >= 180 or visit.dbp_mmhg >= 110)
        and not visit.is_referred
        and not visit.is_left_out
    group by visit.org_code, visit.visited_on
),

-- Not controlled at two follow-ups running asks for referral and a visit within two weeks (same specification).
chronic_history as (
    select
        visit.disease,
        visit.org_code,
        visit.visited_on,
        visit.recorded_at,
        visit.is_referred,
        visit.visit_class_code,
        lag(visit.visit_class_code) over (
            partition by visit.disease, visit.archive_id order by visit.visited_on, visit.recorded_at
        ) as previous_class_code
    from {{ ref('stg_chronic_visit') }} as visit
    where not visit.is_left_out
),

uncontrolled_twice as (
    select
        max(history.recorded_at) as occurred_at,
        'uncontrolled_twice' as alert_kind,
        '连续未控' as kind_zh,
        'warn' as severity,
        history.org_code,
        if(history.disease = 'htn', '高血压', '糖尿病') || '连续两次控制不满意未转诊 ' || count(*) || ' 例' as text_zh
    from chronic_history as history
    where
        history.visited_on > {{ data_date() }} - 30
        and history.visit_class_code = '2'
        and history.previous_class_code = '2'
        and not history.is_referred
    group by history.org_code, history.disease
),

-- The five institutions with the most residents whose agreed next follow-up is two weeks past.
followup_overdue as (
    select
        timezone('Asia/Shanghai', {{ data_date() }} + interval '8 hours') as occurred_at,
        'followup_overdue' as alert_kind,
        '随访逾期' as kind_zh,
        'info' as severity,
        card.org_code,
        '慢病随访逾期两周以上 ' || count(distinct coalesce(card.person_token, card.card_id)) || ' 人' as text_zh
    from {{ ref('int_chronic_card') }} as card
    where not card.is_excluded and card.next_visit_on < {{ data_date() }} - 14
    group by card.org_code
    qualify row_number() over (order by count(*) desc, card.org_code asc) <= 5
),

device_alarm as (
    select
        max(vital.last_at) as occurred_at,
        'device_alarm' as alert_kind,
        '设备报警' as kind_zh,
        'warn' as severity,
        vital.org_code,
        vital.metric_zh
        || case when vital.metric_code = '59408-5' then '过低' else '过高' end
        || '报警 ' || count(*) || ' 人' as text_zh
    from {{ ref('fct_vital_daily') }} as vital
    where
        vital.reading_date > {{ data_date() }} - 3
        and vital.alarms > 0
        and vital.metric_code in ('59408-5', '8480-6')
    group by vital.org_code, vital.reading_date, vital.metric_code, vital.metric_zh
),

-- An institution that delivered a feed before and not for this day. Said once per feed, at the end of the day.
feed_delivery as (
    select
        delivery.feed,
        any_value(delivery.feed_zh) as feed_zh,
        delivery.org_code,
        max(delivery.data_date) as last_delivery
    from {{ source('ops', 'delivery') }} as delivery
    where
        delivery.data_date <= {{ data_date() }}
        and delivery.feed in ('his', 'lis', 'pacs', 'iot', 'public_health')
    group by delivery.feed, delivery.org_code
),

late_delivery as (
    select
        timezone('Asia/Shanghai', {{ data_date() }} + interval '23 hours 59 minutes') as occurred_at,
        'late_delivery' as alert_kind,
        '数据迟交' as kind_zh,
        'warn' as severity,
        case when count(*) = 1 then min(late.org_code) else 'ALL' end as org_code,
        coalesce(any_value(late.feed_zh), late.feed) || '数据未送达'
        || case when count(*) > 1 then '，共 ' || count(*) || ' 家机构' else '' end as text_zh
    from feed_delivery as late
    where late.last_delivery < {{ data_date() }}
    group by late.feed
),

alert as (
    select * from lab_critical
    union all
    select * from bp_no_referral
    union all
    select * from uncontrolled_twice
    union all
    select * from followup_overdue
    union all
    select * from device_alarm
    union all
    select * from late_delivery
)

select
    alert.occurred_at,
    alert.alert_kind,
    alert.kind_zh,
    alert.severity,
    coalesce(org.org_short_name, if(alert.org_code = 'ALL', '全集团', alert.org_code)) as org_short_name,
    alert.text_zh
from alert
left join {{ ref('dim_org') }} as org on alert.org_code = org.org_code
order by alert.occurred_at desc, alert.severity asc, alert.org_code asc, alert.text_zh asc
limit 20
