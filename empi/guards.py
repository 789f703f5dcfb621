"""What a score alone must not decide: each guard holds a pair back for a person to look at.

The scores know fields, not families. Relatives share phone, house and often the birth date (twins); a card or an
id is lent; a clerk types the mother's id for the child. A guard reads the levels on which a pair agrees
(``gamma_*``, see ``empi.model.LEVELS``) and names the reason. The order below is the order of precedence. Aliases
``l`` and ``r`` are the two records' rows of ``birth``.
"""

from __future__ import annotations

from empi.model import gamma, thresholds

_SAME_ID = (
    f"gamma_idno IN ({gamma('idno', 'trusted')}, {gamma('idno', 'same_valid')}, {gamma('idno', 'typo')})"
)
_SURE_ID = f"gamma_idno IN ({gamma('idno', 'trusted')}, {gamma('idno', 'same_valid')})"
_SAME_CARD = f"gamma_card = {gamma('card', 'same')}"
_NAME_OTHER = f"gamma_name IN ({gamma('name', 'else')}, {gamma('name', 'surname')})"
_NAME_DIFFERS = f"gamma_name BETWEEN {gamma('name', 'else')} AND {gamma('name', 'one_character')}"
_NAME_ALIKE = f"gamma_name >= {gamma('name', 'one_character')}"
_DOB_UNPROVEN = f"gamma_dob <> {gamma('dob', 'exact')}"
#: Both records' own birth dates are near enough to the number's, so neither borrowed it.
_BOTH_OWN = f"gamma_idno = {gamma('idno', 'trusted')} AND gamma_dob BETWEEN {gamma('dob', 'one_edit')} AND {gamma('dob', 'exact')}"
_NEWBORN = "(coalesce(l.birth_mark, r.birth_mark) IS NOT NULL)"
_MULTIPLE = "coalesce(l.is_multiple_birth OR r.is_multiple_birth, false)"
_HOME_CLOSE = f"gamma_home >= {gamma('home', 'contact')}"
#: One telephone: a newborn's sex is then a slip (of a single birth).
_HOME_SURE = f"gamma_home >= {gamma('home', 'phone')}"
_MINOR = "coalesce(is_minor_l OR is_minor_r, true)"
_SAME_DAY = f"gamma_dob = {gamma('dob', 'exact')}"
_MARKS_AGREE = "coalesce(l.birth_mark = r.birth_mark OR '' IN (l.birth_mark, r.birth_mark), true)"
#: The mother's name stands in a newborn's own name, and as contact in the records of the child with a name.
_SAME_MOTHER = "coalesce(l.kin_nm = r.kin_nm, false)"

#: Guard -> condition on a scored pair. The first that holds names the pair's ``guard``.
GUARDS: dict[str, str] = {
    # two numbers, both right by checksum and by their own record's birth date: two people
    "two_ids": f"gamma_idno = {gamma('idno', 'two_trusted')} AND NOT coalesce({_SAME_CARD}, false)",
    # the same id under another name, and not the same birth date in both records, or another sex: lent, or a guardian's
    "borrowed_id": f"{_SAME_ID} AND {_NAME_OTHER} AND (({_DOB_UNPROVEN} AND NOT ({_BOTH_OWN})) OR gamma_sex = 0)",
    # a nameless newborn: whose child it is must be certain, 长子 is not 次子, and of twins either may be meant
    "newborn": f"{_NEWBORN} AND NOT ({_SAME_CARD}) AND NOT ({_SAME_DAY} AND ({_HOME_CLOSE} OR {_SAME_MOTHER}) "
    f"AND (gamma_sex <> 0 OR {_HOME_SURE}) AND NOT {_MULTIPLE} AND {_MARKS_AGREE} "
    "AND coalesce(l.mother_nm = r.mother_nm, true) AND gamma_card <> 0)",
    # same home, same birth date, another given name, and no id or card in common: twins and other relatives; but adults
    # have a telephone each, and under one telephone it is one who changed the name, not brother and sister
    "twin": f"NOT ({_SAME_ID}) AND NOT {_SAME_CARD} "
    f"AND NOT ({_HOME_SURE} AND {_SAME_DAY} AND gamma_sex <> 0 AND NOT {_MINOR} AND NOT {_MULTIPLE}) "
    f"AND ({_NAME_DIFFERS} OR (gamma_name = {gamma('name', 'swapped_or_lost')} AND {_MULTIPLE}))",
    # born at another time, and nothing that identifies in common
    "birth_date": f"NOT ({_SAME_ID}) AND gamma_idno <> {gamma('idno', 'typo')} AND NOT {_SAME_CARD} "
    f"AND gamma_dob = {gamma('dob', 'else')}",
}

#: A sure id and a like name settle a pair whatever its weight, unless the birth date is altogether another; and so
#: do a newborn's day of birth and mother.
PROMOTE = (
    f"({_SURE_ID} AND {_NAME_ALIKE} AND gamma_dob <> {gamma('dob', 'else')}) "
    f"OR ({_NEWBORN} AND {_SAME_DAY} AND {_SAME_MOTHER})"
)

GUARD_SQL = "CASE " + " ".join(f"WHEN {sql} THEN '{name}'" for name, sql in GUARDS.items()) + " END"


def accept_sql() -> str:
    """Whether a pair with ``match_weight``, ``guard`` and ``is_promoted`` joins its records."""
    return f"guard IS NULL AND (match_weight >= {thresholds()['accept']} OR is_promoted)"
