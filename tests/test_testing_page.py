"""The page on testing plugins, used as a reader would use it; and `pytest --ftcore-plugin` as a plugin's author sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ftcore.testing.conformance.check import all_rules
from ftcore.testing.installed import distribution

PAGE = Path(__file__).parent.parent / "docs" / "testing-plugins.md"
BLOCK = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL)

Outcome = subprocess.CompletedProcess[str]


def run_pytest(folder: Path, *arguments: str, **environment: str) -> Outcome:
    """pytest in a process of its own, with ftcore's plugin found by its entry point as anybody's."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HF_HUB_OFFLINE"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments],
        cwd=folder,
        env={**own, "PYTHONPATH": path, "FTCORE_CACHE": str(folder / "cache"), **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.slow
def test_the_page(tmp_path: Path) -> None:
    files: dict[str, str] = {}
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        title, body = block["title"] or "", block["body"]
        if title.endswith(", below"):
            files[title.removesuffix(", below")] += body
        elif title and "," not in title:
            files[title] = body
        else:
            assert block["kind"] != "python", f"nobody runs this: {body}"
    assert len(files) == 7
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(body, encoding="utf-8")
    distribution(tmp_path, "shop-ftcore", {"shop": "shop"})

    done = run_pytest(tmp_path, "-v", "--ftcore-plugin", "shop")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "a_run_learns_from_the_shop",
        "rows_are_loaded_once",
        "nothing_is_lost",
        "the_model_is_pushed",
        "the_rules",
    ):
        assert re.search(rf"::test_{name}\w* PASSED", done.stdout), done.stdout
    wanted = [rule.id for rule in all_rules() if rule.kind == "data"]
    for rule in wanted:
        skipped = rule == "data-leaves-secrets"
        assert f"ftcore-plugin/shop::{rule} {'SKIPPED' if skipped else 'PASSED'}" in done.stdout, rule
    assert "its settings hold no secret here" in done.stdout

    # What the page shows of a broken rule is what is seen.
    shop = (tmp_path / "shop.py").read_text(encoding="utf-8")
    careless = re.sub(r"    if request.locator.path not in tables:\n.*?\n\n?(?=    return)", "", shop, flags=re.DOTALL)
    assert careless != shop
    (tmp_path / "shop.py").write_text(careless, encoding="utf-8")
    done = run_pytest(tmp_path, "-q", "--ftcore-plugin", "shop", "-k", "data-refuses")
    assert done.returncode == 1
    (promised,) = [
        block["body"] for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")) if block["kind"] == "text"
    ]
    for line in promised.splitlines()[1:]:
        assert line in done.stdout
    assert "plugin 'shop' breaks data-refuses: " in done.stdout
    assert "Traceback" not in done.stdout


NAMER = """
from ftcore import hookimpl
from ftcore.settings.base import Section


class Settings(Section):
    prefix: str
    '''Stands before the name.'''


@hookimpl
def ftcore_settings() -> type[Section]:
    return Settings


@hookimpl
def ftcore_name_run(config, started_at, settings: Settings) -> str:
    return settings.prefix + (config.run.name or "x")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a namer whose section must be given a value, and with no tests."""
    (tmp_path / "team_ftcore.py").write_text(NAMER, encoding="utf-8")
    distribution(tmp_path, "team-ftcore", {"team": "team_ftcore"})
    return tmp_path


def counts(done: Outcome) -> Mapping[str, int]:
    return {word: int(number) for number, word in re.findall(r"(\d+) (\w+)(?=[, ])", done.stdout.splitlines()[-1])}


def test_a_package_without_tests(package: Path) -> None:
    done = run_pytest(package, "--ftcore-plugin", "team")
    assert done.returncode == 1
    found = counts(done)
    # Without its settings it cannot be tried; its hooks are not typed.
    assert found["failed"] == 5
    assert found["passed"] >= 8
    assert (
        "give them as config.team.prefix = … in the fixture ftcore_conformance or [tool.ftcore.conformance.team]"
        in done.stdout
    )
    assert "ftcore_name_run: config has no type; it is Config" in done.stdout

    (package / "pyproject.toml").write_text('[tool.ftcore.conformance.team]\nconfig.team.prefix = "team-"\n')
    (package / "team_ftcore.py").write_text(
        NAMER.replace("(config, started_at,", "(config: 'Config', started_at: 'datetime',")
    )
    done = run_pytest(package, "--ftcore-plugin", "team", "-v")
    assert done.returncode == 0, done.stdout
    assert "collected 13 items" in done.stdout
    assert "ftcore-plugin/team::namer-legal PASSED" in done.stdout

    done = run_pytest(package, "--ftcore-plugin", "team", "-n", "2")
    assert "13 passed" in done.stdout, done.stdout


def test_choosing_and_mistakes(package: Path) -> None:
    done = run_pytest(package, "--ftcore-plugin", "team", "--collect-only", "-q", "-k", "namer-")
    assert done.stdout.startswith("ftcore-plugin/team::namer-legal\n")
    assert "4/13 tests collected" in done.stdout
    done = run_pytest(package, "--ftcore-plugin", "teams")
    assert done.returncode == 4
    assert "ERROR: --ftcore-plugin teams: no such plugin is installed (there are " in done.stderr
    done = run_pytest(package, "--ftcore-plugin", "team", "--ftcore-kind", "nammer")
    assert (done.returncode, "the kinds are launcher, namer" in done.stderr) == (4, True)
