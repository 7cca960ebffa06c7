"""The tutorial, from an empty folder to a package that can be uploaded: its files are written, its commands typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from doc_pages import DOCS, FENCE, ROOT

from ftcore.testing.installed import distribution
from ftcore.testing.project import FILLED_IN, Project

TINY = {key: value for key, value in FILLED_IN["fine_tuner"].items() if key != "epochs"}
NOT_TYPED = ("twine", "pip install build", "pip install ftcore-tickets", "pip install 'ftcore[train]'")
"""What is there already, and what would leave this machine."""


class Reader:
    """Does what the page says, in its order.

    Attributes:
        outputs: what each command of ftcore printed.
        tested: the calls of pytest.
    """

    def __init__(self, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._model, self._site, self._monkeypatch = folder, model, folder / "site", monkeypatch
        self.outputs: dict[str, str] = {}
        self.tested: list[str] = []

    def write(self, title: str, body: str) -> None:
        name, _, where = title.partition(", ")
        path = self.folder / name
        if where == "its last table":
            kept = path.read_text(encoding="utf-8").partition("[tool.ftcore.conformance")[0]
            path.write_text(kept + body, encoding="utf-8")
        elif where == "below its imports":
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("\nCOLUMNS =", f"\n{body}\nCOLUMNS =", 1), encoding="utf-8")
        else:
            path.write_text(body, encoding="utf-8")
            if name.endswith("__init__.py"):
                for unused in ("formatter.py", "texts.py", "settings.py"):
                    (path.parent / unused).unlink()

    def type(self, command: str) -> None:
        words = shlex.split(command)
        if command.startswith(NOT_TYPED):
            return
        if words[0] == "cd":
            self.folder /= words[1]
        elif words[:2] == ["pip", "install"]:
            # As -e does it: the entry point, and the folder with the code on the path.
            distribution(self._site, "ftcore-tickets", {"tickets": "ftcore_tickets"})
            for folder in (self._site, self.folder / "src"):
                self._monkeypatch.syspath_prepend(str(folder))
        elif words[0] == "ftcore":
            self.outputs[command] = self._ftcore(words[1:])
        elif words[0] == "pytest":
            self.tested.append(command)
        else:
            self.in_a_process(words)

    def _ftcore(self, words: list[str]) -> str:
        """In this process, which has torch already; modules that have changed are imported again."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "ftcore_tickets"]:
            del sys.modules[name]
        tiny = {**TINY, "base_model_id": str(self._model)} if "config.toml" in words else {}
        values = [part for key, value in tiny.items() for part in ("--set", f"fine_tuner.{key}={json.dumps(value)}")]
        done = Project(self.folder, lambda: self._model).ftcore(*words, *values)
        assert done.exit_code == 0, f"ftcore {' '.join(words)}\n{done.output}"
        return done.output

    def test(self, *options: str) -> str:
        """What pytest says of the package."""
        return self.in_a_process(["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options])

    def in_a_process(self, words: list[str]) -> str:
        assert words[0] == "python", words
        path = os.pathsep.join([str(self._site), str(self.folder / "src")])
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path, ftcore_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(tmp_path, ftcore_model, monkeypatch)
    for match in FENCE.finditer((DOCS / "plugin-tutorial.md").read_text(encoding="utf-8")):
        if match["title"]:
            reader.write(match["title"], match["body"])
        elif match["kind"] == "console":
            for line in match["body"].splitlines():
                reader.type(line.removeprefix("$ "))
    (listed,) = [line for line in reader.outputs["ftcore plugins"].splitlines() if line.startswith("tickets")]
    assert "formatter" in listed
    letters = re.sub("[^A-Za-z]", "", reader.outputs["ftcore preview config.toml"])
    assert "Youarethehelpdeskofasmallcompany" in letters
    runs = sorted((reader.folder / "runs").iterdir())
    assert [sorted(json.loads((run / "losses.json").read_text())) for run in runs[1:]] == [["1"]]
    assert len(list((reader.folder / "dist").glob("*.tar.gz"))) == 1
    (wheel,) = (reader.folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "ftcore_tickets/losses.py" in archive.namelist()
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "tickets = ftcore_tickets" in archive.read(entry_points).decode()
    reader.in_a_process(["python", "-m", "ruff", "check", "."])  # as the package's CI does
    reader.in_a_process(["python", "-m", "ruff", "format", "--check", "."])
    # Its tests and the rules in one process, when all of it is there; tests/packaging has tried what was generated.
    assert reader.tested == ["pytest", "pytest", "pytest --ftcore-plugin tickets", "pytest --ftcore-plugin tickets"]
    assert re.search(r"[1-9]\d passed", reader.test("--ftcore-plugin", "tickets"))
    assert len(list((reader.folder / "tests").glob("test_*.py"))) == 1


def test_the_readme_shows_configurations_of_two_kinds() -> None:
    titles = [match["title"] for match in FENCE.finditer((ROOT / "README.md").read_text()) if match["kind"] == "toml"]
    assert titles == ["config.toml", "swap.toml"]
