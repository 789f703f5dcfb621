-- Imaging objects gathered to the study. The header's patient id is the institution's own.
select
    {{ gold_key('instance.org_code', ['instance.study_instance_uid']) }} as study_key,
    instance.org_code,
    max(coalesce(hospital.person_token, archive.person_token)) as person_token,
    min(instance.modality_code) as modality_code,
    min(instance.body_part) as body_part,
    min(instance.study_at) as study_at,
    {{ local_date('min(instance.study_at)') }} as study_on,
    count(distinct instance.series_instance_uid) as series,
    count(*) as instances,
    sum(instance.file_bytes)::bigint as file_bytes
from {{ source('silver', 'imaging_instance') }} as instance
left join {{ ref('stg_person_record') }} as hospital
    on
        hospital.source_system = 'his'
        and instance.org_code = hospital.org_code
        and instance.patient_local_id = hospital.identifier_value
left join {{ ref('stg_person_record') }} as archive
    on
        archive.source_system = 'pacs'
        and instance.org_code = archive.org_code
        and instance.patient_local_id = archive.identifier_value
group by instance.org_code, instance.study_instance_uid
having min(instance.study_at) is null or {{ local_date('min(instance.study_at)') }} <= {{ data_date() }}
