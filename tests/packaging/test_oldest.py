"""constraints-oldest.txt is what pyproject.toml allows at its lower ends; `make test-oldest` runs the fast tests with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
UNTRIED = {
    "torch": "older builds for CPUs are on no index; its bound was read from its release notes",
    "unsloth": "it has an environment of its own",
    "unsloth_zoo": "it has an environment of its own",
}
"""Whose lower bound no test has met, and why."""

TOOLS = {"atheris", "build", "import-linter", "mkdocs", "mkdocs-material", "mypy", "pymdown-extensions", "ruff"}
"""What judges, builds or fuzzes: other versions have other rules, so the lower bound is the tested version."""


def requirements() -> dict[str, Requirement]:
    """Everything that the project or one of its extras asks for, by name, ftcore's own extras left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    return {found.name: found for found in map(Requirement, texts) if found.name != "ftcore"}


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {package: Version(version) for package, version in pairs}


@pytest.mark.parametrize("requirement", [pytest.param(one, id=name) for name, one in requirements().items()])
def test_the_oldest_version_is_the_lower_bound(requirement: Requirement) -> None:
    (bound,) = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    oldest = pins("constraints.txt" if requirement.name in TOOLS else "constraints-oldest.txt")
    if requirement.name not in UNTRIED:
        assert oldest[requirement.name] == bound
        assert bound in requirement.specifier


def test_what_is_not_tried_is_the_tested_version() -> None:
    oldest, tested = pins("constraints-oldest.txt"), pins("constraints.txt")
    assert oldest["torch"] == tested["torch"]
    assert oldest.keys() - tested.keys() == {"packaging"}
    assert tested.keys() - oldest.keys() == TOOLS | UNTRIED.keys() - {"torch"}


def test_no_oldest_version_is_newer_than_the_tested_one() -> None:
    oldest, tested = pins("constraints-oldest.txt"), pins("constraints.txt")
    assert not {name for name in oldest.keys() & tested.keys() if oldest[name] > tested[name]}
