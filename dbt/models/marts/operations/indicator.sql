-- Indicators for each institution and for the group (org_code ALL). Ratios roll up as sums over sums.
with scoped as (
    select
        part.indicator_code,
        part.org_code,
        part.numerator,
        part.denominator,
        part.excluded
    from {{ ref('int_indicator_part') }} as part
    inner join {{ ref('indicator_def') }} as def
        on part.indicator_code = def.indicator_code and def.org_scope = 'org'
    union all
    select
        part.indicator_code,
        'ALL' as org_code,
        sum(part.numerator) as numerator,
        sum(part.denominator) as denominator,
        sum(part.excluded)::bigint as excluded
    from {{ ref('int_indicator_part') }} as part
    group by part.indicator_code
)

select
    scoped.indicator_code,
    def.label_zh,
    scoped.org_code,
    coalesce(org.org_short_name, '全集团') as org_short_name,
    strftime({{ data_date() }}, '%Y') as period,
    scoped.numerator,
    scoped.denominator,
    round(def.scale * scoped.numerator / nullif(scoped.denominator, 0), 2)::double as value,
    scoped.excluded,
    def.unit_zh,
    def.product,
    {{ data_date() }} as data_date
from scoped
inner join {{ ref('indicator_def') }} as def on scoped.indicator_code = def.indicator_code
left join {{ ref('dim_org') }} as org on scoped.org_code = org.org_code
