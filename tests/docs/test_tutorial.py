"""The tutorial, from an empty folder to a package that can be uploaded: its files are written, its commands typed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from doc_pages import DOCS, FENCE, ROOT

from ftcore.testing.installed import distribution
from ftcore.testing.project import FILLED_IN

TINY = {key: value for key, value in FILLED_IN["fine_tuner"].items() if key != "epochs"}
NOT_TYPED = ("twine", "pip install build", "pip install ftcore-tickets", "pip install 'ftcore[train]'")
"""What is there already, and what would leave this machine."""


class Reader:
    """Does what the page says, in its order.

    Attributes:
        outputs: what each command printed.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self._model, self._site = folder, model, folder / "site"
        self.outputs: dict[str, str] = {}

    def write(self, title: str, body: str) -> None:
        name, _, where = title.partition(", ")
        path = self.folder / name
        if where == "its last table":
            kept = path.read_text(encoding="utf-8").partition("[tool.ftcore.conformance")[0]
            path.write_text(kept + body, encoding="utf-8")
        elif where == "below its imports":
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("\nCOLUMNS =", f"{body}\nCOLUMNS =", 1), encoding="utf-8")
        else:
            path.write_text(body, encoding="utf-8")
            if name.endswith("__init__.py"):
                for unused in ("formatter.py", "texts.py", "settings.py"):
                    (path.parent / unused).unlink()

    def type(self, command: str) -> None:
        words = shlex.split(command)
        if command.startswith(NOT_TYPED) or (
            command == "pytest" and command not in self.outputs and not self._replaced()
        ):
            return  # tests/packaging runs the tests of a package as it was generated
        if words[0] == "cd":
            self.folder /= words[1]
        elif words[:2] == ["pip", "install"]:
            # As -e does it: the entry point, and the folder with the code on the path.
            distribution(self._site, "ftcore-tickets", {"tickets": "ftcore_tickets"})
        else:
            self._run(command, words)

    def _replaced(self) -> bool:
        return not (self.folder / "src" / "ftcore_tickets" / "texts.py").exists()

    def _run(self, command: str, words: list[str]) -> None:
        if words[0] == "ftcore" and "config.toml" in words:
            tiny = {**TINY, "base_model_id": str(self._model)}
            words += [
                part for key, value in tiny.items() for part in ("--set", f"fine_tuner.{key}={json.dumps(value)}")
            ]
        module = {"ftcore": ["-m", "ftcore"], "pytest": ["-m", "pytest", "-p", "no:cacheprovider"], "python": []}
        line = [sys.executable, *module[words[0]], *words[1:]]
        if words[:3] == ["python", "-m", "build"]:
            line += ["--wheel"]
        path = os.pathsep.join([str(self._site), str(self.folder / "src")])
        done = subprocess.run(
            line, cwd=self.folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.outputs[command] = done.stdout


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path, ftcore_model: Path) -> None:
    reader = Reader(tmp_path, ftcore_model)
    for match in FENCE.finditer((DOCS / "plugin-tutorial.md").read_text(encoding="utf-8")):
        if match["title"]:
            reader.write(match["title"], match["body"])
        elif match["kind"] == "console":
            for line in match["body"].splitlines():
                reader.type(line.removeprefix("$ "))
    (listed,) = [line for line in reader.outputs["ftcore plugins"].splitlines() if line.startswith("tickets")]
    assert "formatter" in listed
    assert "3 passed" in reader.outputs["pytest"]
    assert "You are the help desk of a small company." in reader.outputs["ftcore preview config.toml"]
    runs = sorted((reader.folder / "runs").iterdir())
    assert [sorted(json.loads((run / "losses.json").read_text())) for run in runs[1:]] == [["1"]]
    (wheel,) = (reader.folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "ftcore_tickets/losses.py" in archive.namelist()
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "tickets = ftcore_tickets" in archive.read(entry_points).decode()


def test_the_readme_shows_configurations_of_two_kinds() -> None:
    titles = [match["title"] for match in FENCE.finditer((ROOT / "README.md").read_text()) if match["kind"] == "toml"]
    assert titles == ["config.toml", "swap.toml"]
