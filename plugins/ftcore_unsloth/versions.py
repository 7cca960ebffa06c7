"""Which versions of unsloth this plugin works with. unsloth patches the libraries under it, so the wrong pair of
versions does not fail where it is loaded but somewhere in training."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires, version

TESTED = ">=2026.10,<2026.11"
"""The versions of unsloth and unsloth_zoo that this plugin was tested with."""

_PACKAGES = ("unsloth", "unsloth_zoo")

_PATCHED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
"""The libraries that unsloth patches or leans on, checked against its own requirements."""


def obstacle() -> str:
    """Why unsloth cannot be used here, or an empty string. Imports nothing heavy."""
    from packaging.specifiers import SpecifierSet

    if sys.platform == "darwin":
        return "on a Mac it trains with MLX, and with a trainer of its own"
    # By what is installed, not by what can be imported: any folder named unsloth can.
    installed = {name: _version(name) for name in _PACKAGES}
    if missing := [name for name, found in installed.items() if not found]:
        return f"{' and '.join(missing)} not installed"
    for name, found in installed.items():
        if found not in SpecifierSet(TESTED):
            return f"{name} {found} is installed, and this plugin was tested with {TESTED}"
    return _unfit_library()


def _unfit_library() -> str:
    from packaging.requirements import Requirement

    for text in requires("unsloth") or ():
        requirement = Requirement(text)
        if requirement.name not in _PATCHED or requirement.marker:
            continue
        found = _version(requirement.name)
        if not found:
            return f"it needs {requirement.name}, which is not installed"
        # A local version such as 2.13.0+cpu is the release that it is built from.
        if found.partition("+")[0] not in requirement.specifier:
            return f"it takes {requirement.name}{requirement.specifier}, and {found} is installed"
    return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
