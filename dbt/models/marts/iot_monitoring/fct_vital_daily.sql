-- Readings of a resident's device gathered to the local day. A reading belongs to whom the device was bound to
-- last at that moment (one resident, also where bindings overlap). Readings that the device calls bad are left out.
select
    {{ gold_key('reading.org_code', [
        'coalesce(record.person_token, reading.device_id)',
        'reading.metric_code',
        local_date('reading.device_at')
    ]) }} as vital_key,
    coalesce(binding.org_code, reading.org_code) as org_code,
    record.person_token,
    {{ local_date('reading.device_at') }} as reading_date,
    reading.metric_code,
    coalesce(metric.name_zh, reading.metric_code) as metric_zh,
    min(reading.unit) as unit,
    count(*) as readings,
    min(reading.value) as min_value,
    avg(reading.value) as mean_value,
    max(reading.value) as max_value,
    count(*) filter (
        where reading.value < metric.alarm_low or reading.value >= metric.alarm_high
    ) as alarms,
    max(reading.device_at) as last_at
from {{ source('silver', 'vital_reading') }} as reading
asof left join {{ source('silver', 'device_binding') }} as binding
    on
        reading.org_code = binding.org_code
        and reading.device_id = binding.device_id
        and reading.device_at >= binding.valid_from
left join {{ ref('stg_archive') }} as record
    on
        binding.archive_id = record.archive_id
        and (binding.valid_to is null or reading.device_at < binding.valid_to)
left join {{ ref('vital_metric') }} as metric on reading.metric_code = metric.metric_code
where
    coalesce(reading.quality_code, 'good') <> 'bad'
    and {{ local_date('reading.device_at') }} <= {{ data_date() }}
group by all
