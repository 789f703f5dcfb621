"""What leaves the platform. Verbs: ``build``, ``publish``, ``assert_open``, ``export``, ``cohort``, ``serving_path``.

Nothing is imported before a verb is used, so ``import products`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from products.build import build as build
    from products.cohort import cohort as cohort
    from products.export import export as export
    from products.paths import published_path as published_path
    from products.paths import serving_path as serving_path
    from products.publish import assert_open as assert_open
    from products.publish import publication as publication
    from products.publish import publish as publish

__all__ = [
    "assert_open",
    "build",
    "cohort",
    "export",
    "publication",
    "publish",
    "published_path",
    "serving_path",
]

_HOME = {
    "assert_open": "publish",
    "build": "build",
    "cohort": "cohort",
    "export": "export",
    "publication": "publish",
    "publish": "publish",
    "published_path": "paths",
    "serving_path": "paths",
}


def _verb(name: str) -> property:
    """A verb shares its name with its module, and importing that module would overwrite the verb on the package:
    a property with an idle setter keeps the verb."""

    def get(_self: ModuleType) -> Any:
        return getattr(import_module(f"products.{_HOME[name]}"), name)

    return property(get, lambda _self, _module: None)


_Face = type("_Face", (ModuleType,), {name: _verb(name) for name in __all__})
sys.modules[__name__].__class__ = _Face
