"""Prepared data on disk, so that the same rows are tokenized once.

    <cache>/prepared/<key>/
        data.arrow     tokens and labels, memory-mapped when they are used
        found.json     what preparing found, and the size that data.arrow must have
        about.json     for `ftcore cache`

The key is made of everything that decides the outcome: the rows, the formatter's code and state, the tokenizer with its
template, the markers, the longest length, and this package's own code. A folder appears complete or not at all, so two
runs at once do not disturb each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ftcore import __version__, arrow, cache, files
from ftcore.errors import DataError
from ftcore.fingerprint import fingerprint
from ftcore_sft import packing
from ftcore_sft.prepare import Recipe, Tally, prepare

if TYPE_CHECKING:
    from datasets import Dataset

_FEWEST_ROWS = 32
"""Fewer rows are prepared sooner than found."""


def cached(rows: Dataset, recipe: Recipe, num_proc: int, source: str = "") -> tuple[Dataset, Tally]:
    """As `prepare`, from the cache where these rows were prepared before.

    A formatter that cannot be told from another one (it cannot be pickled, or has no source) is not cached, nor is
    anything where the cache folder cannot be written.

    Args:
        source: what the rows are, for `ftcore cache`.
    """
    identity = _formatter_identity(recipe.formatter) if len(rows) >= _FEWEST_ROWS else None
    if identity is None:
        return prepare(rows, recipe, num_proc)
    folder = cache.cache_folder() / "prepared" / _key(rows, recipe, identity)
    if (found := _read(folder)) is not None:
        cache.used(folder)
        return found
    with _alone(folder.with_name(f".{folder.name}.lock")):
        return _read(folder) or _made(folder, rows, recipe, num_proc, source)


def _made(folder: Path, rows: Dataset, recipe: Recipe, num_proc: int, source: str) -> tuple[Dataset, Tally]:
    """Prepared now, and kept if that is possible."""
    try:
        with files.whole_folder(folder) as scratch:
            data = scratch / "data.arrow"
            _, tally = prepare(rows, recipe, num_proc, sink=data)
            (scratch / "found.json").write_text(json.dumps({"bytes": data.stat().st_size, "tally": vars(tally)}))
            cache.describe(scratch, "prepared data", _about(source, rows, recipe))
    except OSError:
        pass  # a cache is a convenience: a full disk there stops nothing
    return _read(folder) or prepare(rows, recipe, num_proc)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait while another process does the same work: each of those that train together, say, wants the same data.

    Where no lock can be had (a folder that may only be read, a file system without locks), all of them do it.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            while not _locked(held.enter_context(lock.open("a")), lock):
                pass
            held.callback(lock.unlink, missing_ok=True)  # while it is held: the next one makes a file of its own
        yield


def _locked(file: IO[str], path: Path) -> bool:
    """Wait for the lock; False where its file was somebody's who has removed it meanwhile."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def packed(examples: Dataset, capacity: int, source: str = "") -> Dataset:
    """Prepared data with packed rows, on disk beside the prepared ones where those are.

    Args:
        capacity: tokens in a packed sequence.
        source: what the rows are, for `ftcore cache`.
    """
    if not examples.cache_files:
        return packing.pack(examples, capacity)
    # The folder of the prepared data is named by everything that decides them, this package's code among it.
    prepared = Path(examples.cache_files[0]["filename"]).parent.name
    key = hashlib.sha256(f"{prepared} {capacity}".encode()).hexdigest()[:32]
    what = f"{source or 'data'}, packed to {capacity:,} tokens"
    try:
        return arrow.dataset(packing.packed(examples, capacity), what, "packed", key=key)
    except DataError:  # a cache is a convenience: a full disk there stops nothing
        return packing.pack(examples, capacity)


def _about(source: str, rows: Dataset, recipe: Recipe) -> str:
    formatter = recipe.formatter
    kind = formatter if inspect.isfunction(formatter) else type(formatter)
    tokenizer = getattr(recipe.tokenizer, "name_or_path", "") or "a tokenizer"
    return (
        f"{source or 'data'}, {len(rows):,} rows, by {kind.__module__}.{kind.__qualname__} and {tokenizer}, "
        f"up to {recipe.max_length:,} tokens"
    )


def _read(folder: Path) -> tuple[Dataset, Tally] | None:
    """The prepared data of a folder; None where there are none, or they are damaged."""
    from datasets import Dataset
    from pyarrow import ArrowInvalid

    try:
        found = json.loads((folder / "found.json").read_text())
        data = folder / "data.arrow"
        if data.stat().st_size != found["bytes"]:
            return None
        tally = Tally(**{**found["tally"], "bad": [tuple(item) for item in found["tally"]["bad"]]})
        return Dataset.from_file(str(data)), tally
    except (OSError, ValueError, KeyError, TypeError, ArrowInvalid):
        return None


def _key(rows: Dataset, recipe: Recipe, formatter: bytes) -> str:
    digest = hashlib.sha256()
    for part in (
        _own_code(),
        fingerprint(rows).encode(),
        formatter,
        _tokenizer_identity(recipe.tokenizer),
        repr(recipe.markers).encode(),
        str(recipe.max_length).encode(),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def _formatter_identity(formatter: Any) -> bytes | None:
    """The formatter's class or function, the source of its package, and its state."""
    kind = formatter if inspect.isfunction(formatter) else type(formatter)
    try:
        name = f"{kind.__module__}.{kind.__qualname__}".encode()
        return b"\0".join([name, *_package_source(kind), pickle.dumps(formatter)])
    except (OSError, TypeError, AttributeError, pickle.PicklingError):
        return None


def _package_source(kind: Any) -> list[bytes]:
    """The module's source, and that of the package that it belongs to: formatters share helpers. Of a package's other
    files (word lists, templates) the size and the time."""
    module = Path(inspect.getfile(kind))
    root = kind.__module__.partition(".")[0]
    package = getattr(sys.modules.get(root), "__path__", None)
    paths = sorted(path for place in package for path in Path(place).rglob("*")) if package else [module]
    return [_content(path) for path in paths if path.is_file() and path.parent.name != "__pycache__"]


def _content(path: Path) -> bytes:
    if path.suffix == ".py":
        return path.read_bytes()
    stat = path.stat()
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode()


def _own_code() -> bytes:
    """ftcore's version, and the source of this package: whatever changes in it may change what comes out."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return b"\0".join([__version__.encode(), *sources])


def _tokenizer_identity(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Its own serialization is what it does, whatever files it came from.
    what = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    versions = f"{sys.modules['transformers'].__version__} {sys.modules['tokenizers'].__version__}"
    return "\0".join([versions, what, str(tokenizer.chat_template), repr(tokenizer.special_tokens_map)]).encode()
