-- One resident without name, number or address: what cohorts and exports may select by.
with condition as (
    select
        managed.person_token,
        bool_or(managed.disease = 'htn') as has_htn_card,
        bool_or(managed.disease = 'dm') as has_dm_card
    from {{ ref('int_chronic_card') }} as managed
    group by managed.person_token
),

home as (
    select
        archive.person_token,
        arg_max(archive.org_code, archive.created_on) as managing_org_code
    from {{ ref('stg_archive') }} as archive
    where archive.is_active
    group by archive.person_token
)

select
    person.person_token,
    person.sex_code,
    year(person.birth_date)::integer as birth_year,
    case
        when person.birth_date is not null then least({{ age_on('person.birth_date', data_date()) }}, 90)
    end::integer as age_years,
    left(person.region_code, 6) as county_code,
    home.managing_org_code,
    home.person_token is not null as has_archive,
    coalesce(person.is_deceased, false) as is_deceased,
    coalesce(condition.has_htn_card, false) as has_htn_card,
    coalesce(condition.has_dm_card, false) as has_dm_card
from {{ source('silver', 'person') }} as person
left join home on person.person_token = home.person_token
left join condition on person.person_token = condition.person_token
