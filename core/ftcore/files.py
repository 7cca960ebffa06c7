"""Writing files so that a reader, or a crash, never meets half of one."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Why a folder cannot get its name: there is one that is not empty, or a file, or a link."""


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step. Who may read it is who may read any new file."""
    # Not by mkstemp, whose files are their owner's alone.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        # Half a surrogate pair, which a broken file may have put into a message, must not keep a manifest from being written.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder` when the block ends well; one already there is replaced.

    Several processes may do so at once: each of them leaves a whole folder, and the last one's stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield scratch
        _share(scratch)
        _put(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _put(scratch: Path, folder: Path) -> None:
    """Give a folder the name of another one, which goes; between two looks, somebody else may have done the same."""
    replaced = []
    while True:
        try:
            scratch.replace(folder)
            break
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        replaced.append(aside)
        with suppress(FileNotFoundError):
            folder.replace(aside / "old")
    for aside in replaced:
        shutil.rmtree(aside, ignore_errors=True)


def _share(folder: Path) -> None:
    """Let whoever may read new files read all of these; safetensors writes its own for their owner alone."""
    new = folder / f".new.{secrets.token_hex(8)}"  # the process's mask can only be read by changing it for all threads
    new.touch()
    usual = new.stat().st_mode
    new.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(stat.S_IMODE(file.stat().st_mode | usual))
    folder.chmod(0o755)
