"""Stable identities: the same asset has the same UUID on every machine, so that an import overwrites in place."""

import uuid

_SPACE = uuid.UUID("5b0f5c9e-6d0b-5a53-9f0e-6d65646c616b")
VERSION = "1.0.0"


def identity(kind: str, key: str) -> str:
    return str(uuid.uuid5(_SPACE, f"{kind}:{key}"))
