-- Each institution's data quality at the newest check.
with newest as (
    select max(scorecard.data_date) as data_date
    from {{ source('quality', 'scorecard') }} as scorecard
    where scorecard.data_date <= {{ data_date() }}
),

-- The check writes a line over all domains itself; where it does not, the domains are weighed by records judged.
score as (
    select
        scorecard.org_code,
        coalesce(
            max(scorecard.score) filter (where scorecard.domain = 'ALL'),
            sum(scorecard.score * scorecard.eligible) / nullif(sum(scorecard.eligible), 0)
        ) as score
    from {{ source('quality', 'scorecard') }} as scorecard
    inner join newest on scorecard.data_date = newest.data_date
    group by scorecard.org_code
),

finding as (
    select
        finding.org_code,
        count(*) as open_findings,
        count(*) filter (where finding.severity = 'error') as error_findings
    from {{ source('quality', 'finding') }} as finding
    where finding.state = 'open'
    group by finding.org_code
)

select
    org.org_code,
    org.org_short_name,
    round(score.score, 2)::double as score,
    coalesce(finding.open_findings, 0) as open_findings,
    coalesce(finding.error_findings, 0) as error_findings,
    {{ data_date() }} as data_date
from score
inner join {{ ref('dim_org') }} as org on score.org_code = org.org_code
left join finding on score.org_code = finding.org_code
