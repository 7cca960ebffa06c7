"""The cache folder: what takes time to make and can be made again. Public: plugins keep entries of their own here.

    <cache>/…/<entry>/
        about.json     what it is and what it was made from; its time is that of the last use
        …              whatever the entry consists of

Only folders with an `about.json` are listed and removed: the folder may be one that holds other things too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ftcore import __version__, files
from ftcore.errors import ConfigError

ABOUT = "about.json"

_UNFINISHED = re.compile(r"\.[\w-]*[0-9a-f]{12}\.\w{8}")
"""The name of a folder that `files.whole_folder` works in, for an entry whose name ends with a hash."""

_DEAD_AFTER = 24 * 3600
"""Nobody works on an entry for so many seconds."""


@dataclass(frozen=True)
class Entry:
    """Something in the cache.

    Attributes:
        folder: where it lies.
        kind: what it is, e.g. "prepared data".
        source: what it was made from, for people.
        size: in bytes.
        used_at: when it was used last, in seconds since the epoch.
    """

    folder: Path
    kind: str
    source: str
    size: int
    used_at: float


def cache_folder() -> Path:
    """Where the cache is: `$FTCORE_CACHE`, by default `ftcore` in `$XDG_CACHE_HOME` or in `~/.cache`.

    Raises:
        ConfigError: nobody has that home.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ftcore"
    folder = Path(os.environ.get("FTCORE_CACHE") or base)
    try:
        return folder.expanduser()
    except RuntimeError:
        what = f"the cache {folder} lies in the home of a user who is not here"
        raise ConfigError(what, fix="Set FTCORE_CACHE to a folder") from None


def describe(folder: Path, kind: str, source: str) -> None:
    """Make a folder an entry that `ftcore cache` lists; before it appears at its place, best.

    Args:
        kind: what it is, e.g. "prepared data".
        source: what it was made from, for people.
    """
    files.write_json(folder / ABOUT, {"kind": kind, "source": source, "ftcore": __version__})


def used(folder: Path) -> None:
    """Note that an entry is used now, so that it is not the next to go."""
    with contextlib.suppress(OSError):  # somebody else's cache, perhaps, that may be read alone
        os.utime(folder / ABOUT)


def entries() -> list[Entry]:
    """What is in the cache, the last used first."""
    found = [entry for about in _abouts() if (entry := _entry(about)) is not None]
    return sorted(found, key=lambda entry: -entry.used_at)


def prune(older_than: float) -> list[Entry]:
    """Remove what was not used for so many seconds, and what killed processes left behind; returns the removed entries.

    An entry that is in use goes on to be read where it was opened (on Linux and macOS), and is made again by the next
    run.

    Raises:
        OSError: an entry cannot be removed.
    """
    now = time.time()
    old = [entry for entry in entries() if now - entry.used_at >= older_than]
    for entry in old:
        _remove(entry.folder)
    for folder in _unfinished():
        if now - folder.stat().st_mtime > _DEAD_AFTER:
            shutil.rmtree(folder, ignore_errors=True)
    return old


def _abouts() -> Iterator[Path]:
    root = cache_folder()
    for pattern in (f"*/{ABOUT}", f"*/*/{ABOUT}"):
        yield from (path for path in root.glob(pattern) if not path.parent.name.startswith("."))


def _unfinished() -> Iterator[Path]:
    root = cache_folder()
    for pattern in (".*", "*/.*"):
        yield from (path for path in root.glob(pattern) if path.is_dir() and _UNFINISHED.fullmatch(path.name))


def _entry(about: Path) -> Entry | None:
    """An entry; None where it was removed meanwhile, or the file is somebody else's."""
    try:
        facts = json.loads(about.read_text(encoding="utf-8"))
        parts = [path.stat().st_size for path in about.parent.rglob("*") if path.is_file()]
        return Entry(about.parent, facts["kind"], facts["source"], sum(parts), about.stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(folder: Path) -> None:
    # Moved aside first: nobody finds half of an entry.
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            folder.replace(aside / "old")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
