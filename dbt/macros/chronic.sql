{# A card counts as managed on a day when it was opened by then and not ended by then. #}
{% macro is_managed_on(card, day) -%}
    ({{ card }}.carded_on <= {{ day }}
    and ({{ card }}.status_code = 'active' or {{ card }}.ended_on > {{ day }}))
{%- endmacro %}

{# Face-to-face follow-ups due by a day: four a year, pro-rated from 1 January or the card's first day.
   Floor, so a visit is due only when its quarter is over. #}
{% macro visits_due(carded_on, day) -%}
    floor(4 * (date_diff('day', greatest({{ carded_on }}, {{ year_start() }}), {{ day }}) + 1) / 365.0)::integer
{%- endmacro %}
