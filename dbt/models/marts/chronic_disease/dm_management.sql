-- One active type 2 diabetes card with this year's management. The reading of each flag stands in the YAML beside.
select
    {{ gold_key('card.org_code', ['card.card_id']) }} as card_key,
    card.org_code,
    card.person_token,
    card.age_years::integer as age_years,
    card.carded_on,
    card.visits,
    card.face_to_face_visits,
    card.visits_due,
    card.last_visit_on,
    card.last_fbg_mmol_l,
    card.last_visit_class_code,
    card.last_med_compliance_code,
    card.next_visit_on,
    card.last_exam_on,
    card.is_standard_managed,
    card.is_controlled,
    card.is_excluded,
    card.excluded_visits
from {{ ref('int_chronic_card') }} as card
where card.disease = 'dm'
