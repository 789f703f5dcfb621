{# The one column that makes a row: never empty, never twice. One query instead of `unique` and `not_null`. #}
{% test row_key(model, column_name) %}
    select {{ column_name }}, count(*) as copies
    from {{ model }}
    group by {{ column_name }}
    having count(*) > 1 or {{ column_name }} is null
{% endtest %}
