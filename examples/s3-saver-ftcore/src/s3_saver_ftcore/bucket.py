"""A folder of a bucket: the four things that are asked of it, and its refusals in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from s3_saver_ftcore.checksum import Checksum, checksum

if TYPE_CHECKING:
    from s3_saver_ftcore import S3Settings


class Refusal(Exception):
    """The storage did not take something.

    Attributes:
        why: the reason, as a clause.
        fix: what to change.
        passing: whether it may be otherwise in an hour.
    """

    def __init__(self, why: str, fix: str, passing: bool = False) -> None:
        super().__init__(why)
        self.why, self.fix, self.passing = why, fix, passing


@dataclass(frozen=True)
class Bucket:
    """A folder of a bucket.

    Attributes:
        client: boto3's.
        name: the bucket's.
        folder: where keys begin, "" or with a slash at its end.
        part: in bytes; files of this size and larger are uploaded in parts.
    """

    client: Any = field(repr=False)
    name: str
    folder: str
    part: int

    @classmethod
    @contextmanager
    def open(cls, settings: S3Settings, attempts: int) -> Iterator[Self]:
        """The folder that the settings name; what goes wrong in the block is a Refusal.

        Raises:
            Refusal: the storage cannot be reached, or refused something.
        """
        import boto3
        from botocore.config import Config

        name, _, folder = settings.destination.removeprefix("s3://").partition("/")
        patience = Config(retries={"mode": "standard", "total_max_attempts": attempts}, connect_timeout=10)
        with _refusals():
            client = boto3.client("s3", endpoint_url=settings.endpoint_url, config=patience)
            with closing(client):
                yield cls(client, name, f"{folder}/" if folder else "", settings.part_mib << 20)

    def rehearse(self, key: str) -> None:
        """Begin an upload and give it up: that takes the permission to write, and leaves nothing."""
        place = {"Bucket": self.name, "Key": self.folder + key}
        begun = self.client.create_multipart_upload(**place)
        self.client.abort_multipart_upload(**place, UploadId=begun["UploadId"])

    def has(self, key: str, wanted: Checksum) -> bool:
        """Whether there is a file of this name with these contents."""
        from botocore.exceptions import ClientError

        place = {"Bucket": self.name, "Key": self.folder + key}
        try:
            there = self.client.head_object(**place, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        if there["ContentLength"] != wanted.size:
            return False
        if "ChecksumSHA256" in there:  # S3 adds the number of parts: "…=-3"
            return bool(there["ChecksumSHA256"].partition("-")[0] == wanted.stored)
        # A storage that keeps no checksums, or a file that somebody else put there: read it back.
        with closing(self.client.get_object(**place)["Body"]) as body:
            return checksum(body, self.part) == wanted

    def put(self, path: Path, key: str) -> None:
        """Upload a file, in parts where it is large; parts of an upload that fails are removed."""
        from boto3.s3.transfer import TransferConfig

        self.client.upload_file(
            str(path),
            self.name,
            self.folder + key,
            ExtraArgs={"ChecksumAlgorithm": "SHA256"},
            Config=TransferConfig(multipart_threshold=self.part, multipart_chunksize=self.part),
        )

    def write(self, key: str, text: str) -> None:
        """Write a small file."""
        self.client.put_object(Bucket=self.name, Key=self.folder + key, Body=text.encode(), ChecksumAlgorithm="SHA256")


_FIXES = {
    "NoSuchBucket": "Make the bucket, or set another destination in [s3]",
    "404": "Make the bucket, or set another destination in [s3]",
    "AccessDenied": "Let these credentials put, get and list objects there",
    "403": "Let these credentials put, get and list objects there",
    "InvalidAccessKeyId": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a pair that the storage knows",
    "SignatureDoesNotMatch": "Set AWS_SECRET_ACCESS_KEY to the one that belongs to AWS_ACCESS_KEY_ID",
    "ExpiredToken": "Log in again: the credentials have expired",
}


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn boto3's errors into refusals."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, NoCredentialsError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
        why = " ".join(str(cause).split()).rstrip(".")
        if isinstance(cause, NoCredentialsError):
            fix = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            raise Refusal("there are no credentials", fix) from error
        if isinstance(cause, ClientError):
            status = cause.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            fix = _FIXES.get(cause.response["Error"]["Code"], "")
            raise Refusal(why, fix, passing=status >= 500 or status == 429) from error
        broken = isinstance(cause, (ConnectionError, HTTPClientError))
        raise Refusal(why, "Check endpoint_url in [s3]", passing=broken) from error
