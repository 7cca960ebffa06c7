"""A file's SHA-256, as people compare it and as S3 keeps it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Protocol


class Readable(Protocol):
    """What has bytes to read."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Checksum:
    """What tells whether two files are equal.

    Attributes:
        size: in bytes.
        sha256: of the whole file, hexadecimal.
        stored: as S3 keeps it, base64; for a file that was uploaded in parts it is the SHA-256 of the parts' SHA-256s.
    """

    size: int
    sha256: str
    stored: str


def checksum(file: Readable, part: int) -> Checksum:
    """Read a file to its end.

    Args:
        part: files of so many bytes and more are uploaded in parts of this size.
    """
    whole, parts, size = hashlib.sha256(), [], 0
    while block := _exactly(file, part):
        whole.update(block)
        parts.append(hashlib.sha256(block).digest())
        size += len(block)
    stored = hashlib.sha256(b"".join(parts)).digest() if size >= part else whole.digest()
    return Checksum(size, whole.hexdigest(), base64.b64encode(stored).decode())


def _exactly(file: Readable, size: int) -> bytes:
    # An answer over a network gives less than it is asked for, long before its end.
    blocks: list[bytes] = []
    while size > 0 and (block := file.read(size)):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)
