"""Rows from the server, or from the cache where the server says that they are still the same."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ftcore import arrow, cache, files
from http_jsonl_ftcore.download import download
from http_jsonl_ftcore.rows import pieces
from http_jsonl_ftcore.settings import HttpJsonlSettings

if TYPE_CHECKING:
    from datasets import Dataset

_STORE, _RESPONSE = "http-jsonl", "response.json"
_FORMAT = 1  # raise it when other rows are made of the same body


def load(url: str, settings: HttpJsonlSettings) -> Dataset:
    """The rows, mapped into memory from ftcore's cache.

    The server is always asked, so that somebody without access gets nothing from a cache; but a body that has not
    changed since the last time is not sent again.

    Raises:
        ConfigError: the token cannot be sent.
        DataError: the rows cannot be had, or are no JSON lines.
    """
    store = cache.cache_folder() / _STORE
    store.mkdir(parents=True, exist_ok=True)
    name = f"{_hash(url.encode())}-{_FORMAT}"
    known = _last(store, name)
    with tempfile.TemporaryDirectory(dir=store, prefix=".") as scratch:
        body = Path(scratch) / "body"
        etag = download(url, body, settings, None if known is None else _etag(known))
        # Named by its contents, so that a run which still reads the rows of last week is left alone.
        key = f"{name}-{_hash_of(body)}" if known is None or etag is not None else known.name
        rows = arrow.dataset(pieces(body, url), url, _STORE, key=key)
        if etag is not None:
            files.write_json(store / key / _RESPONSE, {"url": url, "etag": etag})
    return rows


def _last(store: Path, name: str) -> Path | None:
    """The entry of an address that was used last."""
    found = [entry for entry in cache.entries() if entry.folder.parent == store]
    return next((entry.folder for entry in found if entry.folder.name.startswith(f"{name}-")), None)


def _etag(entry: Path) -> str | None:
    try:
        etag: str = json.loads((entry / _RESPONSE).read_text(encoding="utf-8"))["etag"]
    except (OSError, ValueError, KeyError):  # the process was killed before it wrote the file
        return None
    return etag or None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
