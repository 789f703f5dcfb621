{# Opaque key of a record in gold. A source's own id stays in silver: it may hold an archive number. #}
{% macro gold_key(org_code, parts) -%}
    md5({{ org_code }} || '|' || {{ parts | join(" || '|' || ") }})
{%- endmacro %}

{# Whether a record is left out of a product, by an open finding whose rule says `exclude`.
   `record_key` is the contract's key joined with '|', as the quality room writes it. #}
{% macro is_left_out(product, table_name, org_code, parts) -%}
    coalesce(
        ({{ org_code }} || '/' || {{ parts | join(" || '|' || ") }}) in (
            select left_out.org_code || '/' || left_out.record_key
            from {{ source('quality', 'exclusion') }} as left_out
            where left_out.product = '{{ product }}' and left_out.table_name = '{{ table_name }}'
        ),
        false
    )
{%- endmacro %}
