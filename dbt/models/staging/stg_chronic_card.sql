-- Management cards of hypertension and type 2 diabetes in one shape, ended ones too.
with card as (
    select
        'htn' as disease,
        htn.org_code,
        htn.card_id,
        htn.archive_id,
        htn.carded_on,
        htn.risk_level_code,
        htn.status_code,
        htn.ended_on,
        {{ is_left_out('chronic_disease', 'htn_card', 'htn.org_code', ['htn.card_id']) }} as is_left_out
    from {{ source('silver', 'htn_card') }} as htn
    union all
    -- The indicators are about type 2; a card that names no type is one, since the form is for type 2.
    select
        'dm' as disease,
        dm.org_code,
        dm.card_id,
        dm.archive_id,
        dm.carded_on,
        null as risk_level_code,
        dm.status_code,
        dm.ended_on,
        {{ is_left_out('chronic_disease', 'dm_card', 'dm.org_code', ['dm.card_id']) }} as is_left_out
    from {{ source('silver', 'dm_card') }} as dm
    where coalesce(dm.dm_type_code, '2') = '2'
)

select
    card.disease,
    card.org_code,
    card.card_id,
    card.archive_id,
    card.carded_on,
    card.risk_level_code,
    card.status_code,
    card.ended_on,
    card.is_left_out
from card
