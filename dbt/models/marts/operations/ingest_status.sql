-- How each institution delivers each feed: when last, how complete over four weeks, how much was refused.
-- A day counts as expected from the first delivery on, so a source that was connected yesterday is not blamed.
with delivered as (
    select *
    from {{ source('ops', 'delivery') }}
    where data_date <= {{ data_date() }} and org_code <> ''
),

per_source as (
    select
        feed,
        org_code,
        any_value(feed_zh) as feed_zh,
        any_value(grace_hours) as grace_hours,
        max(data_date) as last_delivery_on,
        least(28, {{ data_date() }} - min(data_date) + 1) as expected_days,
        count(distinct data_date) filter (where data_date > {{ data_date() }} - 28) as delivered_days,
        sum(files) as files,
        sum(received) as received,
        sum(loaded) as loaded,
        sum(duplicate) as duplicate,
        sum(quarantined) as quarantined
    from delivered
    group by feed, org_code
)

select
    per_source.feed,
    per_source.feed_zh,
    per_source.org_code,
    org.org_short_name,
    per_source.last_delivery_on,
    ({{ data_date() }} - per_source.last_delivery_on)::bigint as lag_days,
    per_source.grace_hours::bigint as grace_hours,
    ({{ data_date() }} - per_source.last_delivery_on) * 24 > per_source.grace_hours as is_silent,
    per_source.delivered_days::bigint as delivered_days,
    per_source.expected_days::bigint as expected_days,
    round(100.0 * per_source.delivered_days / per_source.expected_days, 1)::double as completeness_pct,
    per_source.files::bigint as files,
    per_source.received::bigint as received,
    per_source.loaded::bigint as loaded,
    per_source.duplicate::bigint as duplicate,
    per_source.quarantined::bigint as quarantined,
    coalesce(round(100.0 * per_source.quarantined / nullif(per_source.received, 0), 3), 0)::double as quarantined_pct,
    {{ data_date() }} as data_date
from per_source
left join {{ ref('dim_org') }} as org on per_source.org_code = org.org_code
