"""A folder, file by file: sent where it is not there yet, and compared when it is."""

from __future__ import annotations

import io
from pathlib import Path

from s3_saver_ftcore.bucket import Bucket, Refusal
from s3_saver_ftcore.checksum import checksum

SUMS = "SHA256SUMS"
"""Written last, for `sha256sum --check`: a folder that has it, as it should be, is whole."""


def upload(bucket: Bucket, folder: Path, target: str) -> tuple[int, int]:
    """Upload the files of a folder; whoever calls again after an error sends what is missing.

    Args:
        target: the folder in the bucket. Files in it that are none of these are left alone.

    Returns:
        How many files were sent, and how many were there.

    Raises:
        Refusal: a file is not what was sent.
    """
    sums: list[str] = []
    sent = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        key = f"{target}/{name}"
        with path.open("rb") as file:
            wanted = checksum(file, bucket.part)
        sums.append(f"{wanted.sha256}  {name}\n")
        if bucket.has(key, wanted):
            continue
        bucket.put(path, key)
        if not bucket.has(key, wanted):
            raise Refusal(f"{key} is not what was sent", "Find out who else writes there; then it can be sent again")
        sent += 1
    text = "".join(sums)
    if not bucket.has(f"{target}/{SUMS}", checksum(io.BytesIO(text.encode()), bucket.part)):
        bucket.write(f"{target}/{SUMS}", text)
    return sent, len(sums) - sent
