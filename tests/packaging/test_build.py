"""What is in the wheels and source distributions."""

from __future__ import annotations

import configparser
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clean")]

ROOT = Path(__file__).parents[2]


def declared(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]


def entry_points(wheel: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(wheel.read(name).decode())
    return {section: dict(parser[section]) for section in parser.sections()}


def test_the_wheel_holds_every_module_and_nothing_else(ftcore_built: Any) -> None:
    sources = {
        path.relative_to(ROOT / home).as_posix()
        for home in ("core", "plugins")
        for path in (ROOT / home).rglob("*")
        if path.name == "py.typed" or path.suffix in (".py", ".jinja", ".css", ".js", ".in")
    }
    with zipfile.ZipFile(ftcore_built.wheel) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == sources
    packages = {name.split("/")[0] for name in packed}
    assert {f"{package}/py.typed" for package in packages} <= packed


def test_the_wheel_has_licence_entry_points_and_metadata(ftcore_built: Any) -> None:
    project = declared(ROOT)
    with zipfile.ZipFile(ftcore_built.wheel) as wheel:
        names = wheel.namelist()
        found = entry_points(wheel)
        (licence,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        head = HeaderParser().parsestr(wheel.read(metadata).decode())
    assert found == {"console_scripts": project["scripts"], **project["entry-points"]}
    assert found.keys() == {"console_scripts", "ftcore", "pytest11"}
    assert (head["Name"], head["Version"], head["License-Expression"]) == ("ftcore", project["version"], "Apache-2.0")
    assert head["Requires-Python"] == ">=3.11"
    assert set(head.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert head.get_payload().startswith("# ftcore")  # the README
    assert ftcore_built.wheel.name.endswith("-py3-none-any.whl")


def test_the_sdist_can_be_built_and_tested_from(ftcore_built: Any) -> None:
    with tarfile.open(ftcore_built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {
        "pyproject.toml", "constraints.txt", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile",
        "core/ftcore/py.typed", "tests/conftest.py", "tests/packaging/test_build.py", "docs/configuration.md",
        "examples/quickstart/config.toml", "examples/acme-ftcore/pyproject.toml",
    }  # fmt: skip
    assert wanted <= names
    assert not [name for name in names if name.endswith((".pyc", ".db")) or "__pycache__" in name]


def test_a_third_partys_wheel(acme_built: Any) -> None:
    with zipfile.ZipFile(acme_built.wheel) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        assert entry_points(wheel) == {"ftcore": {"acme": "acme_ftcore"}}
    assert {name.split("/")[0] for name in names} == {"acme_ftcore"}
    assert {"acme_ftcore/__init__.py", "acme_ftcore/py.typed"} <= set(names)
