{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='result_key',
    on_schema_change='fail'
) }}
-- Numeric results only. Incremental by content, as fct_encounter.
select
    result.result_key,
    result.org_code,
    result.lab_org_code,
    result.person_token,
    result.panel_code,
    result.item_code,
    result.item_name,
    result.loinc_code,
    result.value_num,
    result.comparator,
    result.unit,
    result.ref_low,
    result.ref_high,
    result.abnormal_flag,
    result.reported_at,
    result.reported_on,
    result.batch_id
from {{ ref('stg_lab_result') }} as result
{% if is_incremental() %}
    left join {{ this }} as built on result.result_key = built.result_key
{% endif %}
where
    result.value_num is not null
    {% if is_incremental() %}
        and (
            built.batch_id is distinct from result.batch_id
            or built.person_token is distinct from result.person_token
        )
    {% endif %}
