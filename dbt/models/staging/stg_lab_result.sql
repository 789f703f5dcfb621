-- Laboratory results with their report's institutions and resident. The patient id is the requesting
-- institution's, so the resident comes from its register, or else from the laboratory's own.
select
    {{ gold_key('result.org_code', ['result.report_id', 'result.seq']) }} as result_key,
    result.org_code as lab_org_code,
    coalesce(report.requesting_org_code, report.org_code) as org_code,
    coalesce(requester.person_token, laboratory.person_token) as person_token,
    report.panel_code,
    result.item_code,
    result.item_name,
    result.loinc_code,
    result.value_num,
    result.comparator,
    result.unit,
    result.ref_low,
    result.ref_high,
    result.abnormal_flag,
    report.reported_at,
    {{ local_date('report.reported_at') }} as reported_on,
    result.batch_id
from {{ source('silver', 'lab_result') }} as result
inner join {{ source('silver', 'lab_report') }} as report
    on
        result.org_code = report.org_code
        and result.report_id = report.report_id
left join {{ ref('stg_person_record') }} as requester
    on
        requester.source_system = 'his'
        and coalesce(report.requesting_org_code, report.org_code) = requester.org_code
        and report.patient_local_id = requester.identifier_value
left join {{ ref('stg_person_record') }} as laboratory
    on
        laboratory.source_system = 'lis'
        and coalesce(report.requesting_org_code, report.org_code) = laboratory.org_code
        and report.patient_local_id = laboratory.identifier_value
where {{ local_date('report.reported_at') }} <= {{ data_date() }}
