{{ config(severity='warn') }}
-- A rate should not exceed its whole. Left out: those whose numerator counts other events than the denominator
-- (PH01 archives against the bureau's residents, MG03 and MG14 referrals against discharges and visits).
select
    indicator.indicator_code,
    indicator.org_code
from {{ ref('indicator') }} as indicator
inner join {{ ref('indicator_def') }} as def
    on indicator.indicator_code = def.indicator_code and def.unit_zh = '%'
where
    indicator.numerator > indicator.denominator
    and indicator.indicator_code not in ('PH01', 'MG03', 'MG14')
