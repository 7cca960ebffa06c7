"""The plugin `s3`: the trained model in a bucket of S3, MinIO, Ceph, or whatever else speaks S3's language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ftcore import hookimpl
from ftcore.contracts import Run, Saved, Trained
from ftcore.errors import Problem, SaveError
from ftcore.settings import Section

_DESTINATION = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s]+)*")


class S3Settings(Section):
    """The `[s3]` section. Credentials and region are no settings: boto3 finds them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, …)."""

    destination: str
    """Where models go: `s3://bucket` or `s3://bucket/folder`. Each run has a folder of its name in it."""

    endpoint_url: str | None = None
    """The storage's address, where it is not AWS. Null takes `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, if one is set."""

    part_mib: Annotated[int, Field(ge=5, le=512)] = 64
    """Files of this size (in MiB) and larger are uploaded in parts of it, several at once."""

    attempts: Annotated[int, Field(ge=1)] = 5
    """How often a request is tried while the storage is away or busy."""

    @field_validator("destination")
    @classmethod
    def _destination(cls, value: str) -> str:
        if not _DESTINATION.fullmatch(value.rstrip("/")):
            raise ValueError("it is written s3://bucket or s3://bucket/folder")
        return value.rstrip("/")

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value is not None and (parts.scheme not in ("https", "http") or not parts.hostname):
            raise ValueError("the storage's address begins with https:// or http:// and names a host")
        if parts.username or parts.password:
            raise ValueError("the storage's address holds no user or password; credentials come from the environment")
        return value


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[s3]` section."""
    return S3Settings


@hookimpl
def ftcore_preflight(run_name: str, settings: S3Settings) -> Iterator[Problem]:
    """Would the storage take the model? Asked before the training; nothing is there afterwards that was not before."""
    from s3_saver_ftcore.bucket import Bucket, Refusal

    try:
        with Bucket.open(settings, attempts=1) as bucket:
            bucket.rehearse(f"{run_name}/README.md")
    except Refusal as refusal:
        message = f"the model could not be uploaded to {settings.destination}: {refusal.why}"
        if refusal.passing:
            yield Problem(
                "s3.destination", message, "The run goes on; it is tried again at its end", severity="warning"
            )
        else:
            yield Problem("s3.destination", message, refusal.fix)


@hookimpl
def ftcore_save(run: Run, trained: Trained, settings: S3Settings) -> Saved:
    """Upload `<run>/model`, written first where no other saver has done so; what is there and equal is not sent again.

    Raises:
        SaveError: the storage did not take it; `ftcore finish` sends what is missing.
    """
    from s3_saver_ftcore.bucket import Bucket, Refusal
    from s3_saver_ftcore.upload import upload

    folder = run.dir / "model"
    if run.resumed or not folder.exists():  # a resumed run may find the model of its first part there
        trained.export(folder)
    target = f"{settings.destination}/{run.name}"
    try:
        with Bucket.open(settings, settings.attempts) as bucket:
            sent, kept = upload(bucket, Path(folder), run.name)
    except Refusal as refusal:
        raise SaveError(
            f"the model was trained and lies in {folder}, but is not whole in {target}",
            why=refusal.why,
            fix=refusal.fix,
        ) from refusal
    run.say(f"s3         {sent} files sent, {kept} were there")
    return Saved(f"uploaded {trained.kind}", target)
