"""What is in the bucket after a save, after another one, and after one that was cut short."""

from __future__ import annotations

import hashlib
import io
import socket
import tomllib
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from ftcore.testing import PluginSetup, check_plugin
from s3_saver_ftcore import S3Settings, ftcore_preflight
from s3_saver_ftcore.bucket import Bucket, Refusal
from s3_saver_ftcore.checksum import checksum
from s3_saver_ftcore.upload import upload

MIB = 1 << 20


@pytest.fixture
def settings(storage: str, s3: Any) -> S3Settings:
    return S3Settings(destination="s3://models/team", endpoint_url=storage, part_mib=5, attempts=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder: a small file, a large one, and one in a folder."""
    folder = tmp_path / "model"
    (folder / "nested").mkdir(parents=True)
    (folder / "README.md").write_text("A model.")
    (folder / "nested" / "ä b.json").write_text("{}")
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * (11 * MIB // 256))
    return folder


def send(settings: S3Settings, folder: Path) -> tuple[int, int]:
    with Bucket.open(settings, settings.attempts) as bucket:
        return upload(bucket, folder, "run")


def written(s3: Any) -> list[str]:
    """The keys of everything that was ever written, once for each time."""
    return sorted(version["Key"] for version in s3.list_object_versions(Bucket="models").get("Versions", ()))


def contents(s3: Any, key: str) -> bytes:
    return bytes(s3.get_object(Bucket="models", Key=key)["Body"].read())


def test_it_keeps_the_rules(storage: str, s3: Any) -> None:
    tables = {"s3": {"destination": "s3://models/team", "endpoint_url": storage}}
    check_plugin("s3", setup=PluginSetup(config=tables))


def test_all_files_arrive_and_the_list_of_them_is_last(settings: S3Settings, folder: Path, s3: Any) -> None:
    assert send(settings, folder) == (3, 0)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert contents(s3, f"team/run/{path.relative_to(folder).as_posix()}") == path.read_bytes()
    sums = contents(s3, "team/run/SHA256SUMS").decode()
    assert f"{hashlib.sha256(b'A model.').hexdigest()}  README.md\n" in sums
    assert s3.head_object(Bucket="models", Key="team/run/weights.safetensors")["ETag"].endswith('-3"')  # three parts
    assert s3.list_multipart_uploads(Bucket="models").get("Uploads", []) == []


def test_what_is_there_is_not_sent_again(settings: S3Settings, folder: Path, s3: Any) -> None:
    send(settings, folder)
    once = written(s3)
    assert send(settings, folder) == (0, 3)
    assert written(s3) == once
    (folder / "README.md").write_text("Another.")
    assert send(settings, folder) == (1, 2)
    assert sorted(written(s3)) == sorted([*once, "team/run/README.md", "team/run/SHA256SUMS"])


def test_a_file_without_a_checksum_is_read_back(settings: S3Settings, folder: Path, s3: Any) -> None:
    s3.put_object(
        Bucket="models", Key="team/run/weights.safetensors", Body=(folder / "weights.safetensors").read_bytes()
    )
    s3.put_object(Bucket="models", Key="team/run/README.md", Body=b"A m0del.")
    assert send(settings, folder) == (2, 1)
    assert contents(s3, "team/run/README.md") == b"A model."


def test_a_file_that_is_not_what_was_sent_is_noticed(settings: S3Settings, folder: Path, s3: Any) -> None:
    def another(**_: Any) -> None:
        s3.put_object(Bucket="models", Key="team/run/README.md", Body=b"A m0del.", ChecksumAlgorithm="SHA256")

    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register("after-call.s3.PutObject", another)
    with pytest.raises(Refusal, match=r"run/README\.md is not what was sent"):
        send(settings, folder)
    assert "team/run/SHA256SUMS" not in written(s3)


def test_a_run_whose_storage_was_away_is_finished_later(
    ftcore_project: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project = ftcore_project
    endpoint = f"http://127.0.0.1:{port}"
    tables = {
        "stages": {"savers": ["s3"]},
        "run": {"name": "r"},
        "s3": {"destination": "s3://late", "endpoint_url": endpoint, "attempts": 1},
    }
    ended = project.ftcore("run", project.config(tables))
    assert ended.exit_code == 7
    assert "The run goes on; it is tried again at its end" in ended.stderr
    assert "but is not whole in s3://late/r: Could not connect to the endpoint URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    run = project.path / "runs" / "r"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        client = boto3.session.Session().client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="late")
        client.put_object(Bucket="late", Key="r/README.md", Body=(run / "model" / "README.md").read_bytes())
        finished = project.ftcore("finish", run)
        assert finished.exit_code == 0
        names = [path.relative_to(run / "model").as_posix() for path in (run / "model").rglob("*") if path.is_file()]
        keys = [found["Key"] for found in client.list_objects_v2(Bucket="late")["Contents"]]
        assert keys == sorted(f"r/{name}" for name in [*names, "SHA256SUMS"])
        assert f"{len(names) - 1} files sent, 1 were there" in finished.output
        assert "s3://late/r" in finished.output
        assert "a-secret-that-nobody-sees" not in (run / "config.toml").read_text() + finished.output
        client.close()
    finally:
        server.stop()


def problems(settings: S3Settings) -> list[tuple[str, str]]:
    return [(problem.severity, f"{problem.message}. {problem.fix}") for problem in ftcore_preflight("run", settings)]


def test_what_would_fail_in_the_end_is_found_before(
    settings: S3Settings, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problems(settings) == []
    assert written(s3) == []
    assert s3.list_multipart_uploads(Bucket="models").get("Uploads", []) == []
    ((severity, text),) = problems(settings.model_copy(update={"destination": "s3://no-such-bucket"}))
    assert severity == "error"
    assert "NoSuchBucket" in text
    assert text.endswith("Make the bucket, or set another destination in [s3]")
    ((severity, text),) = problems(settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"}))
    assert (severity, "Could not connect" in text) == ("warning", True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    ((severity, text),) = problems(settings)
    assert severity == "error"
    assert "there are no credentials. Set AWS_ACCESS_KEY_ID" in text


def test_checksums_of_parts() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3))

    data = b"0123456789"
    assert checksum(Slow(data), 4) == checksum(io.BytesIO(data), 4)
    assert checksum(io.BytesIO(data), 4).sha256 == checksum(io.BytesIO(data), 100).sha256
    assert checksum(io.BytesIO(data), 4).stored != checksum(io.BytesIO(data), 100).stored
    assert checksum(io.BytesIO(b""), 4).size == 0


@pytest.mark.parametrize(
    "values",
    [{"destination": "models"}, {"destination": "s3://m/a//b"}, {"endpoint_url": "https://ada:secret@minio.example"}],
)
def test_what_is_no_address_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        S3Settings(**{"destination": "s3://models"} | values)


def test_the_readmes_settings_are_valid() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    tables = tomllib.loads(readme.partition("```toml\n")[2].partition("```")[0])
    S3Settings(**tables["s3"])
