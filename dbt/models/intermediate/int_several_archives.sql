-- Archives of residents who have several, closed ones too, and the one that stands for all: services written to any of
-- them are the resident's, and count once. An archive in use comes first, of these the one proposed to stay, then the
-- newest.
with resident as (
    select archive.person_token
    from {{ ref('stg_archive') }} as archive
    where archive.person_token is not null
    group by archive.person_token
    having count(distinct archive.archive_id) > 1
),

ranked as (
    select
        archive.archive_id,
        archive.person_token,
        first_value(archive.archive_id) over (
            partition by archive.person_token
            order by
                archive.is_active desc,
                coalesce(
                    archive.archive_id = proposal.keeper_archive_id
                    and archive.org_code = proposal.keeper_org_code, false
                ) desc,
                archive.created_on desc nulls last,
                archive.archive_id asc
        ) as counted_archive_id
    from {{ ref('stg_archive') }} as archive
    inner join resident on archive.person_token = resident.person_token
    left join {{ source('silver', 'archive_proposal') }} as proposal
        on archive.org_code = proposal.org_code and archive.archive_id = proposal.archive_id
)

select
    ranked.archive_id,
    any_value(ranked.person_token) as person_token,
    min(ranked.counted_archive_id) as counted_archive_id
from ranked
group by ranked.archive_id
