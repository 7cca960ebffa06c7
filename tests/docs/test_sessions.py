"""Pages that show what a command answers: typed again, it answers so."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, sessions, snippets

from ftcore.testing import check_plugin

Ftcore = Callable[..., Any]
MINIMAL = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "train.jsonl"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, with data."""
    made = tmp_path / "project"
    made.mkdir()
    (made / "train.jsonl").write_text('{"question": "Who?", "answer": "You."}\n', encoding="utf-8")
    monkeypatch.chdir(made)
    return made


def test_organisations(install: Callable[..., Path], ftcore: Ftcore, folder: Path) -> None:
    page = DOCS / "organisations.md"
    files = {snippet.title: snippet.body for snippet in snippets(page) if snippet.title}
    for title, body in files.items():
        (folder / title).write_text(body, encoding="utf-8")
    install("acme-policy", {"acme_policy": files["acme_policy.py"]}, {"acme": "acme_policy"}, version="1.0")
    assert answered(page, ftcore) >= 4


def test_settings(install: Callable[..., Path], ftcore: Ftcore, folder: Path) -> None:
    page = DOCS / "plugin-settings.md"
    files = {snippet.title: snippet.body for snippet in snippets(page)}
    for title in ("config.toml", "wrong.toml"):
        (folder / title).write_text(files[title], encoding="utf-8")
    install("acme-mail", {"acme_mail": files["acme_mail.py"]}, {"mail": "acme_mail"}, version="1.0")
    assert answered(page, ftcore) == 1
    warned = ftcore("check", "config.toml", "--set", "mail.folder=.", "--set", "mail.password=open-sesame")
    assert "password has no effect with a folder" in warned.out + warned.err
    check_plugin("mail", kinds=[])


def test_editors(ftcore: Ftcore, folder: Path) -> None:
    (folder / "config.toml").write_text(MINIMAL, encoding="utf-8")
    assert answered(DOCS / "editors.md", ftcore) >= 2
    assert (folder / "config.toml").read_text() == f"#:schema ./ftcore.schema.json\n{MINIMAL}"


def answered(page: Path, ftcore: Ftcore) -> int:
    """Type the page's commands of ftcore; how many there are. What stands behind "…" in a shown line is left open."""
    typed = [(shlex.split(command), shown) for command, shown in sessions(page) if command.startswith("ftcore ")]
    for words, shown in typed:
        outcome = ftcore(*words[1:])
        lines = (outcome.out + outcome.err).splitlines()
        told = f"{' '.join(words)}\n" + "\n".join(lines)
        for line in shown:
            start = line.partition("…")[0].rstrip()
            assert any(said.startswith(start) for said in lines), f"{line}\nis not in\n{told}"
        assert bool(outcome.code) == any(line.startswith("error: ") for line in shown), told
    return len(typed)
