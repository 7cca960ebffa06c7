"""Checkpoints that are complete or not there. For trainers: write one inside `writing`.

    checkpoints/
        checkpoint-20/            what the trainer wrote, and
            checkpoint.json       each file's size and SHA-256, written last
        .writing/checkpoint-40/   being written; what a crash leaves there is never taken for a checkpoint
        damaged-checkpoint-60/    set aside when a run went on, because its files are not what was written

A checkpoint gets its name when all its files, and the folders that name them, are on the disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftcore.errors import DiskError

CONTENTS = "checkpoint.json"
"""The file in a checkpoint that lists all others."""

_NAME = re.compile(r"checkpoint-(\d+)")
_WRITING, _REMOVING, _TRIAL = ".writing", ".removing", ".trial"
_LITTLE = 1 << 20  # bytes of free space below which a failed write is a full disk, whatever its message
_DISK_WORDS = (
    "no space left",
    "file write failed",
    "failed writing",
    "i/o error",
    "file too large",
    "quota",
    "os error",
    "unexpected pos",  # torch.save, of a file that took less than it was given
)


@dataclass(frozen=True)
class Found:
    """What there is to go on from.

    Attributes:
        folder: the newest complete checkpoint; None where there is none.
        step: its optimizer step, 0 without one.
        damaged: newer checkpoints that are not complete, each with what is wrong.
    """

    folder: Path | None
    step: int
    damaged: tuple[tuple[Path, str], ...] = ()


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes the checkpoint `folder` (`…/checkpoints/checkpoint-<step>`) when the block ends well.

    Raises:
        DiskError: it could not be written; what was there before is untouched.
    """
    scratch = folder.parent / _WRITING / folder.name
    try:
        yield begin(folder)
        complete(folder)
    except BaseException as error:
        refusal = disk_error(error, folder)
        shutil.rmtree(scratch.parent, ignore_errors=True)
        if refusal is not None:
            raise refusal from error
        raise


def begin(folder: Path) -> Path:
    """Make the empty scratch folder of a checkpoint: `<its parent>/.writing/<its name>`."""
    scratch = folder.parent / _WRITING / folder.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def complete(folder: Path) -> None:
    """Turn a filled scratch folder into the checkpoint: contents listed, all on the disk, then the name."""
    scratch = folder.parent / _WRITING / folder.name
    files = {str(path.relative_to(scratch)): _entry(path) for path in sorted(scratch.rglob("*")) if path.is_file()}
    listing = {"step": step_of(folder), "files": files}
    (scratch / CONTENTS).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    for path in sorted(scratch.rglob("*"), reverse=True):
        sync(path)
    sync(scratch)
    if folder.exists():
        _remove(folder)  # of the same step: damaged, or written by a run that was then set back
    scratch.rename(folder)
    sync(folder.parent)
    scratch.parent.rmdir()


def newest(folder: Path) -> Found:
    """The newest complete checkpoint in a run's `checkpoints`, its files compared with what was written."""
    damaged: list[tuple[Path, str]] = []
    for path in reversed(in_order(folder)):
        if not (wrong := problem(path)):
            return Found(path, step_of(path), tuple(damaged))
        damaged.append((path, wrong))
    return Found(None, 0, tuple(damaged))


def problem(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; "" where each file has the size and contents that were written."""
    try:
        files = json.loads((checkpoint / CONTENTS).read_text(encoding="utf-8"))["files"]
        for name, written in files.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != written["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {written['bytes']:,}"
        for name, written in files.items():
            if _sha256(checkpoint / name) != written["sha256"]:
                return f"{name} has other contents than were written"
    except FileNotFoundError:
        return f"{CONTENTS} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{CONTENTS} cannot be read ({error})"
    return ""


def in_order(folder: Path) -> list[Path]:
    """The checkpoints in a run's `checkpoints`, complete or not, by their steps."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _NAME.fullmatch(path.name) and path.is_dir()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint.name} is no checkpoint-<step>")
    return int(match[1])


def rotate(folder: Path, keep: int) -> None:
    """Delete the oldest checkpoints until `keep` are left; to be called when the newest is complete."""
    for path in in_order(folder)[: -max(keep, 1)]:
        _remove(path)


def clean(folder: Path) -> None:
    """Remove what a process left that ended while it wrote or removed a checkpoint."""
    for name in (_WRITING, _REMOVING, _TRIAL):
        shutil.rmtree(folder / name, ignore_errors=True)


def set_aside(checkpoint: Path) -> Path:
    """Give a damaged checkpoint a name that nobody takes for one."""
    target = checkpoint.with_name(f"damaged-{checkpoint.name}")
    number = 2
    while target.exists():
        target = checkpoint.with_name(f"damaged-{checkpoint.name}-{number}")
        number += 1
    checkpoint.rename(target)
    return target


def rehearse(folder: Path) -> None:
    """Write, check and remove a small checkpoint, so that what would keep the first one from being written shows now.

    Raises:
        DiskError: it could not be written, or is not there as it was written.
    """
    trial = folder / _TRIAL / "checkpoint-0"  # aside: a process that ends here must not leave a checkpoint of nothing
    with writing(trial) as scratch:
        (scratch / "nested").mkdir()
        (scratch / "nested" / "weights.bin").write_bytes(os.urandom(4096))
    wrong = problem(trial)
    shutil.rmtree(trial.parent, ignore_errors=True)
    if wrong:
        raise DiskError(
            f"a trial checkpoint in {folder} did not come back as it was written",
            why=wrong,
            fix="Choose another output_dir in [run]",
        )


def disk_error(error: BaseException, folder: Path) -> DiskError | None:
    """The error for a user where a checkpoint could not be written for the disk's sake; None for any other failure."""
    if isinstance(error, DiskError) or not isinstance(error, Exception):
        return None
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, OSError):
        reason = error.strerror or reason
    elif _free(folder) < _LITTLE:
        reason = os.strerror(errno.ENOSPC)
    elif not any(word in reason.lower() for word in _DISK_WORDS):
        return None
    last = newest(folder.parent).folder
    kept = f"the last good checkpoint is {last}" if last else "there is no earlier checkpoint"
    return DiskError(
        f"{folder} could not be written",
        why=f"{reason}; {kept}",
        fix="Make room, then go on with ftcore run CONFIG --resume" if last else "Make room, then begin again",
    )


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entry(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(checkpoint: Path) -> None:
    # Renamed first: a process that ends in the middle of this leaves no half of a checkpoint under its name.
    bin_ = checkpoint.parent / _REMOVING
    bin_.mkdir(exist_ok=True)
    gone = bin_ / checkpoint.name
    shutil.rmtree(gone, ignore_errors=True)
    checkpoint.rename(gone)
    shutil.rmtree(bin_, ignore_errors=True)


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
