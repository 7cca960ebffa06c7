"""`ftcore cache` lists and prunes what ftcore put into the cache folder, and nothing else that lies there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ftcore import cache, files

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(path: Path, kind: str = "prepared data", source: str = "train.jsonl", days: float = 0, size: int = 0) -> Path:
    """An entry as a plugin makes it, last used some days ago."""
    with files.whole_folder(path) as scratch:
        (scratch / "data").write_bytes(b"x" * size)
        cache.describe(scratch, kind, source)
    os.utime(path / cache.ABOUT, (time.time() - days * DAY,) * 2)
    return path


def test_an_empty_cache(ftcore: Any, folder: Path) -> None:
    assert ftcore("cache").out == f"{folder}: nothing\n"
    assert ftcore("cache", "prune").out == "removed nothing\n"
    assert not folder.exists()


def test_entries_are_listed_with_size_age_and_source(ftcore: Any, folder: Path) -> None:
    entry(folder / "prepared" / "ab12", days=3, size=2048)
    entry(folder / "smollm2-1", "converted model", "SmolLM2.gguf", size=5 * 2**20)
    lines = ftcore("cache").out.splitlines()
    assert lines == [
        f"{folder}: 2 entries, 5.0 MiB",
        "     5.0 MiB  used just now      converted model: SmolLM2.gguf (smollm2-1)",
        "     2.1 KiB  used 3 days ago    prepared data: train.jsonl (prepared/ab12)",
    ]


def test_what_was_not_used_for_long_is_removed(ftcore: Any, folder: Path) -> None:
    old, new = entry(folder / "prepared" / "old", days=31), entry(folder / "prepared" / "new", days=29)
    outcome = ftcore("cache", "prune")
    assert (old.exists(), new.exists()) == (False, True)
    assert outcome.out.splitlines()[-1].startswith("removed 1 entry, ")
    assert "(prepared/old)" in outcome.out
    ftcore("cache", "prune", "--older-than", "700h")
    assert new.exists()
    ftcore("cache", "prune", "--older-than", "4w")
    assert not new.exists()


def test_using_an_entry_keeps_it(ftcore: Any, folder: Path) -> None:
    kept = entry(folder / "prepared" / "one", days=90)
    cache.used(kept)
    ftcore("cache", "prune")
    assert kept.exists()


def test_all_is_all_of_ours_and_nothing_else(ftcore: Any, folder: Path) -> None:
    entry(folder / "prepared" / "one")
    others = [folder / "photos" / "cat.jpg", folder / "prepared" / "notes.txt", folder / "about.json"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (folder / "other").mkdir()
    (folder / "other" / "about.json").write_text('{"name": "somebody else\'s"}')
    (folder / ".git").mkdir()
    assert ftcore("cache", "prune", "--all").code == 0
    assert not (folder / "prepared" / "one").exists()
    assert all(path.read_text() == "mine" for path in others)
    assert (folder / "other" / "about.json").exists()
    assert (folder / ".git").exists()


def test_what_a_killed_process_left_behind_is_removed_when_it_is_dead(ftcore: Any, folder: Path) -> None:
    key = "0123456789abcdef0123456789abcdef"
    with pytest.raises(RuntimeError), files.whole_folder(folder / "prepared" / key) as scratch:
        dead, alive = scratch.with_name(f".{key}.abcd_123"), scratch.with_name(scratch.name + "")
        dead.mkdir()
        (dead / "data.arrow").write_bytes(b"half")
        os.utime(dead, (time.time() - 2 * DAY,) * 2)
        ftcore("cache", "prune", "--all")
        assert (dead.exists(), alive.exists()) == (False, True)
        raise RuntimeError


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "30 years"])
def test_an_age_is_a_number_and_a_unit(ftcore: Any, age: str) -> None:
    outcome = ftcore("cache", "prune", "--older-than", age)
    assert outcome.code == 2
    assert "is no age: write 30d, 12h, 90m or 2w" in outcome.err


def test_the_folder_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FTCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "ftcore"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path("~/.cache/ftcore").expanduser()


@pytest.mark.parametrize("arguments", [("cache",), ("cache", "prune")])
def test_a_file_is_no_cache(
    ftcore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "file"))
    outcome = ftcore(*arguments)
    assert outcome.errors == [f"error: the cache {tmp_path / 'file'} is no folder. Name another one in FTCORE_CACHE"]
    assert outcome.code == 2


def test_a_cache_in_the_home_of_nobody(ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCORE_CACHE", "~nobody-of-that-name/x")
    outcome = ftcore("cache")
    assert (outcome.code, outcome.errors) == (
        2,
        [
            "error: the cache ~nobody-of-that-name/x lies in the home of a user who is not here. "
            "Set FTCORE_CACHE to a folder"
        ],
    )
