"""Files and folders that appear whole."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftcore import files


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_others_may_read_what_they_may_read_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "usual").touch()
        files.write_text(tmp_path / "text", "a")
        with files.whole_folder(tmp_path / "folder") as scratch:
            (scratch / "below").mkdir()
            (scratch / "below" / "weights").touch(0o600)
            (scratch / "program").touch()
            (scratch / "program").chmod(0o755)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    usual = modes["usual"]
    assert modes == {"usual": usual, "text": usual, "weights": usual, "program": 0o755 | usual}
    assert usual == 0o666 & ~mask


def test_many_at_once_leave_one_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def put(number: int) -> None:
        for _ in range(25):
            with files.whole_folder(folder) as scratch:
                for name in ("a", "b"):
                    (scratch / name).write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "a").read_text() == (folder / "b").read_text()


@pytest.mark.parametrize("there", ["a folder", "an empty folder", "a file", "a link"])
def test_whatever_has_the_name_is_replaced(tmp_path: Path, there: str) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    if there == "a file":
        folder.touch()
    elif there == "a link":
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir()
    if there == "a folder":
        (folder / "old").touch()
    with files.whole_folder(folder) as scratch:
        (scratch / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "folder"]
    assert (elsewhere / "kept").exists()
