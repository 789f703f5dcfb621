{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='encounter_key',
    on_schema_change='fail'
) }}
-- Incremental by content, not by date: a row is written again when another batch delivered it or when linking
-- gave it another resident. So late rows, corrections and merges arrive, and the same day twice changes nothing.
select
    encounter.encounter_key,
    encounter.org_code,
    encounter.person_token,
    encounter.class_code,
    encounter.dept_code,
    encounter.main_icd10_code,
    encounter.started_at,
    encounter.ended_at,
    encounter.started_on,
    encounter.ended_on,
    encounter.sbp_mmhg,
    encounter.dbp_mmhg,
    encounter.disposition_code,
    encounter.total_fee,
    encounter.insurance_pay,
    encounter.batch_id
from {{ ref('stg_encounter') }} as encounter
{% if is_incremental() %}
    left join {{ this }} as built on encounter.encounter_key = built.encounter_key
    where
        built.batch_id is distinct from encounter.batch_id
        or built.person_token is distinct from encounter.person_token
        or built.main_icd10_code is distinct from encounter.main_icd10_code
{% endif %}
