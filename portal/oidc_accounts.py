"""Whose account a checked identity is: one that administrators bound to it, or one that the allow-list of claims gives.

The allow-list (``MEDLAKE_OIDC_MAPPING``) is YAML: ``role_claim`` and ``org_claim`` name claims; ``roles`` and ``orgs`` map
their values to ours. A value without a line gives nothing, two roles at once give nothing, and the three administrators are
never given by claims: their accounts take two persons. Every login applies the list anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from lake import access_scope
from lake.access_policy import policy
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.settings import settings
from portal import account_store

#: Who made an account that the allow-list gives; others are left as their administrators made them.
_BY = "oidc"


@dataclass(frozen=True)
class Mapping:
    role_claim: str
    org_claim: str
    roles: dict[str, str]
    orgs: dict[str, str]

    def of(self, claims: dict[str, Any]) -> tuple[str, str] | None:
        """(role, institution) of an identity; None: it has not exactly one of each."""
        roles = {self.roles[v] for v in _values(claims.get(self.role_claim)) if v in self.roles}
        orgs = {self.orgs[v] for v in _values(claims.get(self.org_claim)) if v in self.orgs}
        return (roles.pop(), orgs.pop()) if len(roles) == 1 and len(orgs) == 1 else None


def _values(given: Any) -> list[str]:
    return [v for v in (given if isinstance(given, list) else [given]) if isinstance(v, str)]


def mapping() -> Mapping | None:
    """The allow-list, or None when none is set.

    Raises:
        MedlakeError: E693, it cannot be read, or names a role, an institution or an administrator that it may not.
    """
    path = settings().oidc_mapping
    if path is None:
        return None
    try:
        node = yaml.safe_load(path.read_text("utf-8"))
        found = Mapping(str(node["role_claim"]), str(node["org_claim"]),
                        {str(k): str(v) for k, v in node["roles"].items()},
                        {str(k): str(v) for k, v in node["orgs"].items()})  # fmt: skip
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise MedlakeError("E693", detail="mapping") from error
    known = policy().roles
    if any(r not in known or known[r].duties for r in found.roles.values()):
        raise MedlakeError("E693", detail="mapping.roles")
    if not all(access_scope.below(org) for org in found.orgs.values()):
        raise MedlakeError("E693", detail="mapping.orgs")
    return found


def account_of(claims: dict[str, Any]) -> Any | None:
    """The active account of an identity, made or changed as the allow-list says; None: nobody gets in.

    Raises:
        MedlakeError: E693, the allow-list is wrong.
    """
    subject = f"{str(claims['iss']).rstrip('/')}|{claims['sub']}"
    row = account_store.by_subject(subject)
    rules = mapping()
    if rules is not None and (row is None or (row.created_by == _BY and row.state == "active")):
        given = rules.of(claims)
        if given is None:
            return None
        if row is None:
            user = f"sso.{sm3_hex(subject.encode())[:16]}"
            name = str(claims.get("name") or user)[:100]
            account_store.create(user, name, *given, by=_BY, oidc=subject)
        elif (row.role, row.org_code) != given:
            account_store.move(row.user, *given, by=_BY)
        row = account_store.by_subject(subject)
    elif row is not None and row.created_by == _BY:
        return None  # the list that gave it is gone, or an administrator locked it
    return row if row is not None and row.state == "active" else None
