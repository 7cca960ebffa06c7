"""The page for organisations: its policy is installed, and its commands say what the page says."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_pages import DOCS, sessions, snippets

PAGE = DOCS / "organisations.md"


def test_what_is_typed_is_answered_so(
    install: Callable[..., Path], ftcore: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    files = {snippet.title: snippet.body for snippet in snippets(PAGE) if snippet.title}
    for title, body in files.items():
        (folder / title).write_text(body, encoding="utf-8")
    (folder / "train.jsonl").write_text('{"question": "Who?", "answer": "You."}\n', encoding="utf-8")
    install("acme-policy", {"acme_policy": files["acme_policy.py"]}, {"acme": "acme_policy"}, version="1.0")
    typed = sessions(PAGE)
    assert len(typed) >= 4
    for command, shown in typed:
        words = shlex.split(command)
        assert words[0] == "ftcore"
        outcome = ftcore(*words[1:])
        lines = (outcome.out + outcome.err).splitlines()  # type: ignore[attr-defined]
        for line in shown:
            start = line.partition("…")[0].rstrip()
            assert any(said.startswith(start) for said in lines), f"{command}\n{line}\n{chr(10).join(lines)}"
        failed = any(line.startswith("error: ") for line in shown)
        assert bool(outcome.code) == failed, f"{command}\n{chr(10).join(lines)}"  # type: ignore[attr-defined]
