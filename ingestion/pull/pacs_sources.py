"""The register of image archives: ``home/secrets/sources.yaml``, key ``archives`` (``medlake pacs template``).

It holds where an archive is, whose it is and how it is asked. Passwords and tokens stand in files beside it;
neither the register nor such a file may be readable by others than its owner.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lake import registry
from lake.errors import MedlakeError
from lake.settings import settings

TEMPLATE = """\
# <home>/secrets/sources.yaml, mode 0600. Image archives (PACS) that medlake asks for metadata, never for pixels.
archives:
  - name: main                # letters, digits, - and _
    org_code: H001            # whose archive it is
    protocol: qido            # DICOMweb QIDO-RS
    url: https://pacs.example.cn/dicom-web
    user: medlake             # leave out where none is needed
    password_file: pacs-main.password     # beside this file, mode 0600; or token_file: for a bearer token
    ca_file: /etc/ssl/hospital-ca.pem     # leave out for the system's authorities
    page: 500                 # studies asked for at once
    lookback_days: 3          # a day's pull asks these days before it again: late series, corrections, deletions
    timeout_seconds: 30
    attempts: 5               # with pauses that double, beginning with pause_seconds
    pause_seconds: 0.5
  - name: township
    org_code: C201
    protocol: cfind           # DIMSE C-FIND, study root
    host: 10.1.2.3
    port: 11112
    called_aet: PACS
    calling_aet: MEDLAKE
"""


class Archive(BaseModel):
    """One archive of one institution."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    org_code: str
    protocol: Literal["qido", "cfind"]
    url: str = ""
    user: str = ""
    password_file: str = ""
    token_file: str = ""
    ca_file: str = ""
    host: str = ""
    port: int = Field(104, ge=1, le=65535)
    called_aet: str = Field("", max_length=16)
    calling_aet: str = Field("MEDLAKE", max_length=16)
    page: int = Field(500, ge=1, le=10_000)
    lookback_days: int = Field(3, ge=0, le=366)
    timeout_seconds: float = Field(30, gt=0)
    attempts: int = Field(5, ge=1, le=20)
    pause_seconds: float = Field(0.5, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Archive:
        if self.protocol == "qido" and not self.url.startswith(("http://", "https://")):
            raise ValueError("qido needs url")
        if self.protocol == "cfind" and not (self.host and self.called_aet):
            raise ValueError("cfind needs host and called_aet")
        if self.org_code not in registry.org_codes():
            raise ValueError("org_code is no institution")
        return self

    def secret(self, file: str) -> str:
        """The content of a secret's file; empty where none is named.

        Raises:
            MedlakeError: E255, it is not there or others may read it.
        """
        if not file:
            return ""
        path = register().parent / file
        if not path.is_file():
            raise MedlakeError("E255", source=self.name, detail=f"{file} does not exist")
        _private(path, self.name)
        return path.read_text("utf-8").strip()


def register() -> Path:
    return settings().secrets_dir / "sources.yaml"


def _private(path: Path, source: str) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise MedlakeError("E255", source=source, detail=f"{path.name}: mode must be 0600")


def _archive(node: dict[str, Any]) -> Archive:
    try:
        return Archive.model_validate(node)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()]
        raise MedlakeError(
            "E255", source=str(node.get("name", "?"))[:64], detail="; ".join(problems)
        ) from None


def load() -> list[Archive]:
    """All archives; none when there is no register.

    Raises:
        MedlakeError: E255, the register is wrong or readable by others.
    """
    path = register()
    if not path.is_file():
        return []
    _private(path, path.name)
    try:
        node: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) or {}
        listed = [dict(n) for n in node.get("archives") or ()]
        found = [_archive(n) for n in listed]
    except (yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise MedlakeError("E255", source=path.name, detail=type(error).__name__) from None
    names = [a.name for a in found]
    if len(set(names)) != len(names):
        raise MedlakeError("E255", source=path.name, detail="a name is given twice")
    return found


def archive(name: str) -> Archive:
    """One archive by its name.

    Raises:
        MedlakeError: E255, there is none.
    """
    for found in load():
        if found.name == name:
            return found
    raise MedlakeError("E255", source=name, detail=f"not in {register().name}")
