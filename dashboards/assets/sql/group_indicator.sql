-- columns: indicator_code VARCHAR 编号, label_zh VARCHAR 指标, value DOUBLE 指标值, unit_zh VARCHAR 单位, numerator DOUBLE 分子, denominator DOUBLE 分母, excluded BIGINT 质控剔除数
-- grain: one row per indicator, the whole group
SELECT
    indicator_code,
    label_zh,
    value,
    unit_zh,
    numerator,
    denominator,
    excluded
FROM gold.indicator
WHERE org_code = 'ALL'
