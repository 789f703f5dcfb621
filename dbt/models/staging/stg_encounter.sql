-- Encounters with the resident's token, local day and main diagnosis.
with main_diagnosis as (
    select
        diagnosis.org_code,
        diagnosis.encounter_id,
        arg_min(diagnosis.icd10_code, diagnosis.seq) as main_icd10_code
    from {{ source('silver', 'diagnosis') }} as diagnosis
    group by diagnosis.org_code, diagnosis.encounter_id
)

select
    {{ gold_key('encounter.org_code', ['encounter.encounter_id']) }} as encounter_key,
    encounter.org_code,
    encounter.encounter_id,
    record.person_token,
    encounter.class_code,
    encounter.dept_code,
    main_diagnosis.main_icd10_code,
    encounter.started_at,
    encounter.ended_at,
    {{ local_date('encounter.started_at') }} as started_on,
    {{ local_date('encounter.ended_at') }} as ended_on,
    encounter.sbp_mmhg::double as sbp_mmhg,
    encounter.dbp_mmhg::double as dbp_mmhg,
    encounter.disposition_code,
    encounter.total_fee,
    encounter.insurance_pay,
    encounter.batch_id
from {{ source('silver', 'encounter') }} as encounter
left join {{ ref('stg_person_record') }} as record
    on
        record.source_system = 'his'
        and encounter.org_code = record.org_code
        and encounter.patient_local_id = record.identifier_value
left join main_diagnosis
    on
        encounter.org_code = main_diagnosis.org_code
        and encounter.encounter_id = main_diagnosis.encounter_id
where {{ local_date('encounter.started_at') }} <= {{ data_date() }}
