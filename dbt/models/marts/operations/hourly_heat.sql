-- All 168 hours of a week over the last 28 days, empty hours as 0, so that the heat map has no holes.
with weekday (weekday_no, weekday_zh) as (
    values (1, '周一'), (2, '周二'), (3, '周三'), (4, '周四'), (5, '周五'), (6, '周六'), (7, '周日')
),

arrival as (
    select
        isodow({{ local_time('encounter.started_at') }}) as weekday_no,
        hour({{ local_time('encounter.started_at') }}) as hour_no,
        count(*) as encounters
    from {{ ref('fct_encounter') }} as encounter
    where encounter.started_on > {{ data_date() }} - 28
    group by all
)

select
    weekday.weekday_no::integer as weekday_no,
    weekday.weekday_zh,
    clock.hour_no::integer as hour,
    coalesce(arrival.encounters, 0) as encounters
from weekday
cross join range(24) as clock (hour_no)
left join arrival on weekday.weekday_no = arrival.weekday_no and clock.hour_no = arrival.hour_no
