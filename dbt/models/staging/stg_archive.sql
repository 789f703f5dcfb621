-- Health archives with the resident's token and age; birth date and death as linking settled them.
select
    archive.org_code,
    archive.archive_id,
    record.person_token,
    coalesce(person.sex_code, archive.sex_code) as sex_code,
    coalesce(person.birth_date, archive.birth_date) as birth_date,
    {{ age_on('coalesce(person.birth_date, archive.birth_date)', data_date()) }} as age_years,
    archive.created_on,
    archive.status_code = '0'
    and not coalesce(archive.is_dead, false)
    and not coalesce(person.is_deceased, false) as is_active,
    {{ is_left_out('chronic_disease', 'ph_archive', 'archive.org_code', ['archive.archive_id']) }}
        as is_out_of_chronic,
    {{ is_left_out('elderly_exam', 'ph_archive', 'archive.org_code', ['archive.archive_id']) }}
        as is_out_of_elderly,
    {{ is_left_out('health_archive', 'ph_archive', 'archive.org_code', ['archive.archive_id']) }}
        as is_out_of_archive
from {{ source('silver', 'ph_archive') }} as archive
left join {{ ref('stg_person_record') }} as record
    on
        record.source_system = 'public_health'
        and archive.org_code = record.org_code
        and archive.archive_id = record.identifier_value
left join {{ source('silver', 'person') }} as person on record.person_token = person.person_token
