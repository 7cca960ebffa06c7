"""Files and folders that appear whole."""

from __future__ import annotations

import os
import stat
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
