"""The pages for people: every snippet of them is used here as a reader would use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftcore.config import load
from ftcore.plugins import discover

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)#]+)\)")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page: Path) -> list[tuple[str, str, str]]:
    return [(match["kind"], match["title"] or "", match["body"]) for match in FENCE.finditer(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(page.read_text()):
        if "://" not in match["target"]:
            assert (page.parent / match["target"]).exists(), match["target"]


def test_readme_configurations_are_valid(tmp_path: Path) -> None:
    shown = [(title, body) for kind, title, body in snippets(ROOT / "README.md") if kind == "toml"]
    assert [title for title, _ in shown] == ["config.toml", "swap.toml"]
    for title, body in shown:
        (tmp_path / title).write_text(body)
        assert load(tmp_path / title, discover()).fine_tuner.training_data_id == "train.jsonl"


def test_readme_commands_exist() -> None:
    commands = [
        line.removeprefix("$ ").split("#")[0].split()
        for kind, _, body in snippets(ROOT / "README.md")
        if kind == "console"
        for line in body.splitlines()
    ]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [command[0] for command in commands].count("make") == 2
    for command in commands:
        if command[0] == "make":
            assert command[1] in targets
        else:
            done = subprocess.run([sys.executable, "-m", "ftcore", command[1], "--help"], capture_output=True)
            assert done.returncode == 0, command


@pytest.mark.slow
def test_plugin_tutorial(tmp_path: Path) -> None:
    """Write its files, run its commands, and see what it promises."""
    commands = []
    for kind, title, body in snippets(ROOT / "docs" / "plugin-tutorial.md"):
        if title:
            (tmp_path / title).write_text(body)
        elif kind == "console":
            commands += [line.removeprefix("$ ") for line in body.splitlines()]
    site = tmp_path / "site"
    outputs = {}
    for command in commands:
        if command == "pip install .":
            # Into a folder of its own: the environment that runs the tests stays as it is.
            line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), "."]
        else:
            assert command.startswith("ftcore ")
            line = [sys.executable, "-m", "ftcore", *command.split()[1:]]
        done = subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)}
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout
    (listed,) = [line for line in outputs["ftcore plugins"].splitlines() if line.startswith("tickets")]
    assert "formatter, reporter" in listed
    why = outputs["ftcore plugins why config.toml"]
    assert re.search(r"^formatter +tickets", why, re.MULTILINE)
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"[1-9]\d* records, finished\n", (run / "count.txt").read_text())
    assert "help desk of a small company" in (run / "config.toml").read_text()
