"""Finding the file or folder that an id means, and the data files inside a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ftcore.contracts import DataRequest
from ftcore.errors import DataError
from ftcore_data._options import VALIDATION_SPLITS
from ftcore_data._tables import ENDINGS, ending

_SPLIT_NAMES = ("train", "training", *VALIDATION_SPLITS)
_SPLIT_OF_NAME = re.compile(rf"(?P<split>{'|'.join(_SPLIT_NAMES)})(?:[-_.].*)?$")


@dataclass(frozen=True)
class Folder:
    """The data files of a folder.

    Attributes:
        splits: the files of each split, where their names tell one.
        others: the files whose names do not.
    """

    splits: dict[str, list[Path]]
    others: list[Path]


def find(request: DataRequest) -> Path:
    """The file or folder of a request: from the working directory, else from the configuration's folder.

    Raises:
        DataError: there is none; similar names are listed.
    """
    text = request.locator.path
    if not text:
        raise DataError(f'the id "{request.locator.text}" names no file', fix="Write file:path, or the path alone")
    try:
        path = Path(text).expanduser()
        for candidate in (path, request.base_dir / path):
            if candidate.exists():
                return candidate
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL, no such user's home
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)[:120]
        shown = text if len(text) <= 80 else text[:80] + "…"
        raise DataError(f'the path "{shown}" cannot be used', why=reason, fix="Correct it") from None
    raise _missing(request, path)


def _missing(request: DataRequest, path: Path) -> DataError:
    places = [path] if path.is_absolute() else [path, request.base_dir / path]
    parents = list(dict.fromkeys(place.parent.resolve() for place in places))
    names = {child.name for parent in parents if parent.is_dir() for child in parent.iterdir()}
    close = get_close_matches(path.name, sorted(names), n=3, cutoff=0.78)
    looked = " or ".join(str(parent) for parent in parents)
    if not any(parent.is_dir() for parent in parents):
        why, fix = f"the folder {looked} does not exist", "Correct training_data_id or validation_data_id"
    else:
        why, fix = f"it is not in {looked}", "Correct the path"
    fix = f"Did you mean {', '.join(close)}?" if close else fix
    return DataError(f'there is no file or folder "{path}"', why=why, fix=fix)


def folder(path: Path) -> Folder:
    """The data files of a folder: directly in it, in its folder `data`, or in a folder for each split.

    Raises:
        DataError: it has none, or it cannot be listed.
    """
    try:
        files = _files(path)
        inside = [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith(".")]
        splits = {child.name: _files(child) for child in inside if _split_of(child) and _files(child)}
        if not files and not splits and (path / "data").is_dir():
            return folder(path / "data")
    except OSError as error:
        raise DataError(f'cannot list the folder "{path}"', why=error.strerror or str(error)) from None
    others: list[Path] = []
    for file in files:
        split = _split_of(file)
        splits.setdefault(split, []).append(file) if split else others.append(file)
    if not splits and not others:
        raise DataError(
            f'the folder "{path}" has no data files',
            why=f"files end in {', '.join(ENDINGS)}, each also with .gz; a folder from save_to_disk has a state.json",
            fix="Correct the path, or name a file",
        )
    return Folder(splits, others)


def _files(path: Path) -> list[Path]:
    children = sorted(child for child in path.iterdir() if child.is_file() and not child.name.startswith("."))
    return [child for child in children if ending(child) in ENDINGS]


def _split_of(path: Path) -> str:
    found = _SPLIT_OF_NAME.match(path.name.lower())
    return {"training": "train"}.get(found["split"], found["split"]) if found else ""


def ambiguous(path: Path, others: Sequence[Path]) -> DataError:
    """The error for a folder where some names tell a split and some do not."""
    names = ", ".join(file.name for file in others[:4]) + (", …" if len(others) > 4 else "")
    return DataError(
        f'which files of the folder "{path}" are meant is not clear',
        why=f"some are named by a split, like train.jsonl, and some are not: {names}",
        fix="Name a file, or choose with ?split=…",
    )
