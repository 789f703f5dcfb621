-- The crosswalk: which resident a source's own record belongs to. Exactly one open MR row per record.
select
    identifier.source_system,
    identifier.org_code,
    identifier.identifier_value,
    max(identifier.person_token) as person_token
from {{ source('silver', 'person_identifier') }} as identifier
where identifier.identifier_type = 'MR' and identifier.valid_to is null
group by identifier.source_system, identifier.org_code, identifier.identifier_value
