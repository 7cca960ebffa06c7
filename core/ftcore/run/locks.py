"""One process at a time in a run directory."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ftcore.errors import ConfigError, DiskError

Part = Literal["run", "job"]
"""The command that started or resumed the run, and the process that trains: a launcher may start it elsewhere."""


class Lock:
    """A lock that ends with its process, however that ends.

    Raises:
        ConfigError: another process has it.
        DiskError: the directory cannot be written to.
    """

    def __init__(self, folder: Path, part: Part = "run") -> None:
        try:
            self._file = (folder / f".{part}.lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise unwritable(folder, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._holder()
            self._file.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: nothing can be known, and nothing is refused
            raise ConfigError(
                f"the run {folder} is in use",
                why=f"it belongs to {holder}" if holder else "another process works in it",
                fix="Wait until it ends, or stop it",
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        self._file.close()

    def _holder(self) -> str:
        self._file.seek(0)
        return self._file.read(200).strip()


def unwritable(folder: Path, error: OSError) -> DiskError:
    """The error for a run directory that cannot be written to."""
    return DiskError(
        f"the run {folder} cannot be gone on with",
        why=f"{error.filename or folder}: {error.strerror or error}",
        fix="Make it writable, or copy it to where it is",
    )


@contextmanager
def held(folder: Path, part: Part = "run") -> Iterator[None]:
    """The lock for the length of a block.

    Raises:
        ConfigError: another process has it.
    """
    lock = Lock(folder, part)
    try:
        yield
    finally:
        lock.release()
