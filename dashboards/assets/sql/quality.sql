-- columns: org_short_name VARCHAR 机构, score DOUBLE 质控得分, open_findings BIGINT 未结问题, error_findings BIGINT 其中错误
-- grain: one row per institution that was checked
SELECT
    org_short_name,
    score,
    open_findings,
    error_findings
FROM gold.quality_score
