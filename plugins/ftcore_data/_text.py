"""Opening data files: gzip seen by its content, text decoded, and what can go wrong said in one line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from ftcore.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_BINARY_MAGIC = {b"PAR1": "Parquet", b"ARROW1": "Arrow", b"PK\x03\x04": "zip", b"SQLite format 3": "SQLite"}
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def unreadable(path: Path, why: str, fix: str = "") -> DataError:
    """The error for a data file that cannot be read."""
    return DataError(f'cannot read the data file "{path}"', why=why, fix=fix)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The content of a file, decompressed where it is gzip.

    Raises:
        DataError: also for what fails while the caller reads: damaged gzip, a disk error.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            if path.suffix.lower() == ".gz" and not compressed:
                empty = path.stat().st_size == 0
                raise unreadable(path, "it is empty" if empty else "it ends in .gz and is not gzip", "Check the file")
            raw.seek(0)
            if compressed:
                with gzip.open(raw) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield raw
    except EOFError:
        raise unreadable(path, "its gzip stream ends too early", "Copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise unreadable(path, f"its gzip stream is damaged ({error})", "Copy or download it again") from None
    except OSError as error:
        raise unreadable(path, error.strerror or str(error), "Check the path and its permissions") from None


@contextmanager
def open_text(path: Path, encoding: str, newline: str | None = None) -> Iterator[TextIO]:
    """The text of a file, without its byte order mark.

    Args:
        newline: as for `open`.

    Raises:
        DataError: it is empty, binary, or not in this encoding.
    """
    with open_bytes(path) as raw:
        buffered = io.BufferedReader(cast(io.RawIOBase, raw), 1 << 20)
        head = buffered.peek(4096)[:4096]
        _refuse_binary(path, head, encoding)
        codec = "utf-8-sig" if encoding == "utf-8" else encoding
        try:
            yield io.TextIOWrapper(buffered, encoding=codec, newline=newline)
        except UnicodeDecodeError as error:
            place = _undecodable_line(path) if encoding == "utf-8" else ""
            byte = error.object[error.start : error.start + 1].hex()
            raise unreadable(
                path,
                f"it is not {encoding}{place} (byte 0x{byte})",
                "Save it as UTF-8, or name its encoding: [file] encoding",
            ) from None


def _refuse_binary(path: Path, head: bytes, encoding: str) -> None:
    if not head.strip():
        raise unreadable(path, "it is empty", "Check the file")
    for magic, kind in _BINARY_MAGIC.items():
        if head.startswith(magic):
            raise unreadable(path, f"it holds {kind} data, and its name says otherwise", "Give it the right ending")
    if encoding.startswith(("utf-16", "utf-32")):
        return
    if head.startswith(_UTF16_MARKS):
        raise unreadable(path, f"it is UTF-16, not {encoding}", 'Save it as UTF-8, or set [file] encoding = "utf-16"')
    if b"\x00" in head:
        raise unreadable(path, "it is binary, not text", "Check the file")


def _undecodable_line(path: Path) -> str:
    with open_bytes(path) as raw:
        for number, line in enumerate(raw, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f" in line {number}"
    return ""
