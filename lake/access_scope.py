"""The institution tree: whose rows an institution answers for."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1)
def _parents() -> dict[str, str | None]:
    from lake import registry

    table = registry.orgs().select(["org_code", "parent_org_code"]).to_pydict()
    return dict(zip(table["org_code"], table["parent_org_code"], strict=True))


@lru_cache(maxsize=1)
def root() -> str:
    """The institution that nobody is above."""
    return next(code for code, parent in _parents().items() if not parent)


@lru_cache(maxsize=512)
def below(org_code: str) -> frozenset[str]:
    """An institution and all below it; empty when there is no such institution.

    The loop goes over the register (hundreds of lines), once an institution.
    """
    parents = _parents()
    if org_code not in parents:
        return frozenset()
    found = {org_code}
    grew = True
    while grew:
        more = {code for code, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return frozenset(found)


def forget() -> None:
    """Read the register anew (tests change it)."""
    for kept in (_parents, root, below):
        kept.cache_clear()
