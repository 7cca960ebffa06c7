"""From the registry into the cache: each file is compared with its checksum before anybody sees it."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ftcore import cache, files
from ftcore.errors import ModelError
from registry_loader_ftcore import index, provenance
from registry_loader_ftcore.index import File, Found

T = TypeVar("T")

_PAUSES = (1.0, 4.0)  # seconds between the tries of one file
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Store:
    """A registry, as one configuration sees it.

    Attributes:
        url: its address, or a folder.
        stage: what an id without `@` means.
        timeout: seconds that it may be silent.
        token: its access token, if it wants one.
    """

    url: str
    stage: str
    timeout: float
    token: str | None = field(repr=False)

    def find(self, wanted: str) -> Found:
        """The version that `name`, `name@stage` or `name@version` means today.

        Raises:
            ModelError: there is none, or the registry does not answer.
        """
        text = self._patiently(lambda: b"".join(self._blocks("index.json")))
        return index.find(index.parse(text, self.url), wanted, self.stage)

    def folder(self, found: Found) -> Path:
        """The folder in the cache with these files; they are downloaded where they are not there.

        Raises:
            ModelError: they cannot be had, are not what the index says, or cannot be kept.
        """
        slug = re.sub(r"[^\w-]", "-", f"{found.model}-{found.version}")
        entry = cache.cache_folder() / provenance.HOME / f"{slug}-{found.digest}"
        if not _complete(entry, found):
            size = sum(file.bytes for file in found.files.values()) / 1e6
            print(f"registry   downloading {found}, {size:,.1f} MB", file=sys.stderr, flush=True)
            try:
                # Two runs may download at once: each does so aside, and the last to end replaces an equal folder.
                with files.whole_folder(entry) as scratch:
                    self._download(found, scratch / "model")
                    provenance.describe(scratch, found, self.url)
                    cache.describe(scratch, "registry model", str(found))
            except OSError as error:
                why = error.strerror or str(error)
                raise ModelError(f"{found} cannot be kept in {entry}", why=why, fix="Make room") from error
        cache.used(entry)
        return entry / "model"

    def _download(self, found: Found, folder: Path) -> None:
        for name, file in found.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            source = f"{found.model}/{found.version}/{name}"
            digest = self._patiently(partial(self._copy, source, folder / name, file))
            if digest != file.sha256:
                raise ModelError(
                    f"{name} of {found} is not what the registry's index says",
                    why=f"its SHA-256 begins with {digest[:12]} instead of {file.sha256[:12]}",
                    fix="Do not use it, and tell who runs the registry",
                )

    def _copy(self, source: str, target: Path, file: File) -> str:
        """Download a file; its SHA-256."""
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as copy:
            for block in self._blocks(source):
                digest.update(block)
                size += copy.write(block)
        if size < file.bytes:
            raise _Passing(f"{source} ended after {size:,} of {file.bytes:,} bytes")
        return digest.hexdigest()

    def _blocks(self, path: str) -> Iterator[bytes]:
        """The contents of a file of the registry."""
        base = self.url.rstrip("/") if "://" in self.url else Path(self.url).expanduser().absolute().as_uri()
        request = Request(f"{base}/{quote(path)}")  # noqa: S310 - RegistrySettings admits http and folders only
        if self.token and base.startswith("http"):
            # Not a plain header: that would be sent on to whatever host the registry redirects to.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                while block := answer.read(_BLOCK):
                    yield block
        except HTTPError as error:
            error.close()
            why = f"{path}: {error.code} {error.reason}"
            if error.code in (408, 429) or error.code >= 500:
                raise _Passing(why) from error
            fix = (
                "Set REGISTRY_TOKEN to one that may read it" if error.code in (401, 403) else "Check url in [registry]"
            )
            raise ModelError(f"the registry {self.url} does not give its files", why=why, fix=fix) from error
        except (OSError, HTTPException) as error:
            why = f"{path}: {getattr(error, 'reason', error)}"
            if base.startswith("http"):
                raise _Passing(why) from error
            raise ModelError(f"there is no registry in {self.url}", why=why, fix="Check url in [registry]") from error

    def _patiently(self, step: Callable[[], T]) -> T:
        for pause in _PAUSES:
            try:
                return step()
            except _Passing:
                time.sleep(pause)
        try:
            return step()
        except _Passing as error:
            fix = "Try again later, or check url in [registry]"
            raise ModelError(f"the registry {self.url} does not answer", why=str(error), fix=fix) from error


class _Passing(Exception):
    """It may be otherwise in a moment."""


def _complete(entry: Path, found: Found) -> bool:
    """Whether all files are there; their contents were compared when they came."""
    model = entry / "model"
    return (entry / cache.ABOUT).exists() and all(
        (model / name).is_file() and (model / name).stat().st_size == file.bytes for name, file in found.files.items()
    )
