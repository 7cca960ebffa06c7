"""Each example is a wheel: all of them in one environment, in which each one's own tests run.

One process of pytest runs them all, because importing torch and TRL takes longer than most of these tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tomli_w

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("examples")]

EXAMPLES = {
    path.parent.name: path.parent for path in sorted(Path(__file__).parents[2].glob("examples/*-ftcore/pyproject.toml"))
}
_NO_SOURCES = ("build", "dist", "__pycache__", "*.egg-info", ".*")


def pyproject(example: str) -> dict[str, Any]:
    return tomllib.loads((EXAMPLES[example] / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Environment:
    """An environment with every example's wheel, beside all that this interpreter has.

    Attributes:
        python: its interpreter.
        folder: of the examples' tests, one folder for each example, without their sources.
    """

    python: Path
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m ARGUMENTS` in the folder, with nothing of this pytest in its environment."""
        ours = ("PYTEST_", "FTCORE_", "AWS_")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        command = [str(self.python), "-m", *arguments]
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    scratch, folder = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("examples")
    copies = [
        shutil.copytree(path, scratch / name, ignore=shutil.ignore_patterns(*_NO_SOURCES))
        for name, path in EXAMPLES.items()
    ]
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python3*/site-packages"))
    # What they need is here already, and what builds them too: nothing is asked of an index.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", str(site), *map(str, copies)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # As a site folder, not a mere path: ftcore itself is installed by a .pth file in it.
    (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for copy in copies:
        shutil.rmtree(copy / "src")
        shutil.move(copy, folder / copy.name)
    tables = [pyproject(name)["tool"] for name in EXAMPLES]
    filters = dict.fromkeys(text for table in tables for text in table["pytest"]["ini_options"]["filterwarnings"])
    options = {"ini_options": {"filterwarnings": list(filters)}}
    (folder / "pyproject.toml").write_text(tomli_w.dumps({"tool": {"pytest": options}}), encoding="utf-8")
    yield Environment(home / "bin" / "python", folder)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def cases(environment: Environment) -> list[ElementTree.Element]:
    """What became of each test of each example."""
    report = environment.folder / "report.xml"
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", f"--junitxml={report}")
    done = environment.run("pytest", *options, *EXAMPLES)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout)  # pytest shows it where a test fails
    return list(ElementTree.parse(report).iter("testcase"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_own_tests_pass(example: str, cases: list[ElementTree.Element]) -> None:
    mine = [case for case in cases if example in case.attrib["classname"].split(".") or example in case.attrib["name"]]
    failed = [
        f"{case.attrib['name']}: {outcome.attrib.get('message', '')[:500]}\n{(outcome.text or '')[-3000:]}"
        for case in mine
        for outcome in case
        if outcome.tag in ("failure", "error")
    ]
    assert not failed, "\n\n".join(failed)
    assert [case for case in mine if case.find("skipped") is None], f"no test of {example} has run"


def test_all_are_listed(environment: Environment) -> None:
    done = environment.run("ftcore", "plugins")
    assert done.returncode == 0, done.stderr
    rows = {tuple(re.split(r"\s{2,}", line)[:4]) for line in done.stdout.splitlines()}
    for example in EXAMPLES:
        project = pyproject(example)["project"]
        for plugin in project["entry-points"]["ftcore"]:
            assert (plugin, project["name"], project["version"], "ok") in rows


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_is_whole(example: str) -> None:
    project = pyproject(example)["project"]
    assert project["name"] == example
    assert any(re.match(r"ftcore\b.*>=", requirement) for requirement in project["dependencies"])
    assert (EXAMPLES[example] / "README.md").read_text(encoding="utf-8").startswith(f"# {example}")
    assert list(EXAMPLES[example].glob("src/*/py.typed"))
