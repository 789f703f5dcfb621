{# What a run is told: `--vars` by hand, or the environment from products/build.py. The environment is read only
   when SQL is compiled for execution, so a new day does not make dbt parse the whole project again. #}
{% macro told(name, environment) -%}
    {%- set given = var(name, none) or (env_var(environment, '') if execute else 'unknown') -%}
    {%- if not given -%}
        {{ exceptions.raise_compiler_error(name ~ " is missing: run `medlake build`, or pass --vars") }}
    {%- endif -%}
    {{ return(given) }}
{%- endmacro %}

{# The day being processed, as a DATE literal. A run without it stops: no model falls back to the clock. #}
{% macro data_date() -%}
    date '{{ told("data_date", "MEDLAKE_DATA_DATE") }}'
{%- endmacro %}

{# Residents of the city, split over the centres by seeds/org.csv: stands for the statistics bureau's figure. #}
{% macro city_residents() -%}
    {{ told("residents", "MEDLAKE_CITY_RESIDENTS") }}
{%- endmacro %}

{# First day of the calendar year of the day being processed: indicators count from here. #}
{% macro year_start() -%}
    date_trunc('year', {{ data_date() }})::date
{%- endmacro %}

{# An instant (UTC) as Shanghai wall-clock time, and its local day. #}
{% macro local_time(instant) -%}
    timezone('Asia/Shanghai', {{ instant }})
{%- endmacro %}

{% macro local_date(instant) -%}
    timezone('Asia/Shanghai', {{ instant }})::date
{%- endmacro %}

{# Completed years of age on a day. A birthday counts on the day itself. #}
{% macro age_on(birth_date, day) -%}
    date_sub('year', {{ birth_date }}, {{ day }})
{%- endmacro %}
