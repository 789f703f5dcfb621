"""Which institution a message is of: its sending facility must be in the register or be mapped to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lake import registry
from lake.errors import MedlakeError


@dataclass(frozen=True)
class Facilities:
    """``mapped``: MSH-4 or ``MSH-3|MSH-4`` -> institution. ``only``: the door belongs to this institution alone."""

    mapped: Mapping[str, str] = field(default_factory=dict)
    only: str = ""

    def org_of(self, application: str, facility: str) -> str | None:
        """The institution's code; None when the sender is unknown, or is not whose door this is."""
        org = self.mapped.get(f"{application}|{facility}") or self.mapped.get(facility)
        if org is None and facility in registry.org_codes():
            org = facility
        if self.only:
            return self.only if org in (None, self.only) else None
        return org


def load(path: Path | None, only: str = "") -> Facilities:
    """Read a map from YAML.

    Raises:
        MedlakeError: E253, no such file, no map, or an institution that the register does not have.
    """
    import yaml

    mapped: dict[str, str] = {}
    if path is not None:
        try:
            node = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise MedlakeError("E253", place=str(path), detail=type(error).__name__) from error
        if not isinstance(node, dict):
            raise MedlakeError("E253", place=str(path), detail="no map")
        mapped = {str(k): str(v) for k, v in node.items()}
    unknown = sorted({*mapped.values(), *([only] if only else [])} - registry.org_codes())
    if unknown:
        raise MedlakeError("E253", place=str(path or ""), detail=", ".join(unknown))
    return Facilities(mapped, only)
