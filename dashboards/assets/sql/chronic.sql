-- columns: disease_zh VARCHAR 病种, org_short_name VARCHAR 机构, managed BIGINT 在管人数, standard_managed BIGINT 规范管理人数, controlled BIGINT 控制达标人数, standard_rate DOUBLE 规范管理率, control_rate DOUBLE 控制率, excluded BIGINT 质控剔除数
-- grain: one row per disease and institution
SELECT
    disease_zh,
    org_short_name,
    managed,
    standard_managed,
    controlled,
    standard_rate,
    control_rate,
    excluded
FROM gold.chronic_management
