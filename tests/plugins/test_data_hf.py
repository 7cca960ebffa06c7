"""The data source `hf`, against a server on loopback that speaks the part of the Hub's protocol that reading needs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

COMMIT = "a" * 40
TOKEN = "hf_reads_the_gated_one"

TRAIN = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(7)]
TEST = [{"question": "held out", "answer": "yes"}]
ITALIAN = [{"question": "ciao", "answer": "sì"}]


def jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


CONFIGS = b"""---
configs:
- config_name: en
  data_files: [{split: train, path: en.jsonl}]
- config_name: it
  data_files: [{split: train, path: it.jsonl}]
---
"""

REPOSITORIES: dict[str, dict[str, bytes]] = {
    "user/plain": {"README.md": b"# plain\n", "train.jsonl": jsonl(TRAIN), "test.jsonl": jsonl(TEST)},
    "user/columnar": {"data/train-00000-of-00001.parquet": parquet(TRAIN)},
    "user/named": {"README.md": CONFIGS, "en.jsonl": jsonl(TRAIN), "it.jsonl": jsonl(ITALIAN)},
    "user/gated": {"README.md": b"# gated\n", "train.jsonl": jsonl(TRAIN)},
    "user/two": {"a.md": b"", "validation.jsonl": jsonl(TRAIN), "test.jsonl": jsonl(TEST)},
    "user/script": {"README.md": b"# script\n", "script.py": b"raise SystemExit('ran')\n"},
    "user/broken": {"README.md": b"# broken\n", "train.jsonl": b'{"question": \n'},
    "user/empty": {"README.md": b"# nothing here\n"},
}


@dataclass
class Hub:
    url: str
    requests: list[tuple[str, str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._serve(with_body=False)

    def do_GET(self) -> None:
        self._serve(with_body=True)

    def do_POST(self) -> None:
        self._serve(with_body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self, with_body: bool) -> None:
        self.with_body = with_body
        url = urlsplit(self.path)
        path = unquote(url.path)
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.requests.append((self.command, path, token))
        name = next((name for name in REPOSITORIES if f"datasets/{name}/" in path + "/"), None)
        if name is None:
            return self._error(404 if token else 401, "RepoNotFound")  # the Hub tells a stranger no more
        if token == "hf_revoked":
            return self._error(401, "")
        if name == "user/gated" and token != TOKEN and "/resolve/" in path:
            return self._error(403 if token else 401, "GatedRepo")
        files = REPOSITORIES[name]
        rest = path.split(f"datasets/{name}", 1)[1].strip("/")
        kind, _, rest = rest.partition("/")
        revision, _, rest = rest.partition("/")
        if revision not in ("", "main", COMMIT):
            return self._error(404, "RevisionNotFound")
        if path.startswith("/api/"):
            return self._api(name, files, kind, rest, sent)
        if rest not in files:
            return self._error(404, "EntryNotFound")
        return self._file(files[rest])

    def _api(self, name: str, files: Mapping[str, bytes], kind: str, rest: str, sent: bytes) -> None:
        entries = [entry(path, content) for path, content in files.items()]
        folders = {path.rpartition("/")[0] for path in files} - {""}
        entries += [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders]
        if kind == "tree":
            inside = [item for item in entries if item["path"].startswith(rest + "/" if rest else "")]
            if "recursive=true" not in self.path.lower():
                depth = rest.count("/") + 1 if rest else 0
                inside = [item for item in inside if item["path"].count("/") == depth]
            return self._json(inside) if inside or not rest else self._error(404, "EntryNotFound")
        if kind == "paths-info":
            text = sent.decode()
            asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
            return self._json([item for item in entries if item["path"] in asked])
        siblings = [{"rfilename": path} for path in files]
        return self._json({"id": name, "sha": COMMIT, "private": False, "siblings": siblings, "tags": []})

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _file(self, content: bytes) -> None:
        headers = {"ETag": f'"{sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            return self._answer(200, content, headers)
        first, _, last = asked.partition("-")
        start, stop = int(first), min(int(last or len(content)), len(content) - 1) + 1
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return self._answer(206, content[start:stop], headers)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.with_body:
            self.wfile.write(body)


def entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": sha1(content).hexdigest()}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Handler.hub
    server.shutdown()
    thread.join()
    server.server_close()


LOAD = """
import json, sys
from pathlib import Path
from ftcore import locators
from ftcore.contracts import DataRequest
from ftcore.errors import FtcoreError
from ftcore.plugins import discover

plugins = discover()
for line in sys.stdin:
    text, purpose = json.loads(line)
    request = DataRequest(locators.parse(text), purpose, num_proc=1, seed=0, base_dir=Path.cwd())
    try:
        rows = plugins.call("ftcore_load_dataset", "hf", request=request, settings=None)
        print(json.dumps({"kind": type(rows).__name__, "rows": rows.to_list()}))
    except FtcoreError as error:
        print(json.dumps({"kind": type(error).__name__, "text": str(error)}))
"""


def load(asked: list[tuple[str, str]], home: Path, **environment: str) -> list[dict[str, Any]]:
    """What the plugin answers in a process of its own: the Hub's client reads its environment when it is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ended = subprocess.run(
        [sys.executable, "-c", LOAD],
        input="".join(json.dumps(one) + "\n" for one in asked),
        capture_output=True,
        text=True,
        timeout=300,
        env=inherited | {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"} | environment,
        cwd=home,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def dataset(rows: list[dict[str, str]]) -> dict[str, Any]:
    return {"kind": "Dataset", "rows": rows}


LOADED = [
    ("user/plain", "training", TRAIN),
    ("user/plain", "validation", TEST),
    ("user/plain?split=test", "training", TEST),
    ("user/plain?rows=3", "training", TRAIN[:3]),
    ("user/plain?rows=3000", "training", TRAIN),
    (f"user/plain?revision={COMMIT}", "training", TRAIN),
    ("hf:user/plain?streaming=true", "training", TRAIN),
    ("user/plain?streaming=true&rows=2", "training", TRAIN[:2]),
    ("user/plain?streaming=false&rows=2", "training", TRAIN[:2]),
    ("user/columnar", "training", TRAIN),
    ("user/columnar", "validation", TRAIN),
    ("user/columnar?streaming=true&rows=4", "training", TRAIN[:4]),
    ("user/named?name=en", "training", TRAIN),
    ("user/named?name=it", "training", ITALIAN),
]

HUB = "from the Hugging Face Hub:"
REFUSED = [
    (
        "user/plain?split=tset",
        "DataError",
        '"user/plain?split=tset" has no split "tset": its splits are train, test. Did you mean split=test?',
    ),
    (
        "user/two",
        "DataError",
        '"user/two" has no split that is usual for training: its splits are validation, test. Choose one of them with ?split=…',
    ),
    (
        "user/plain?revision=nowhere",
        "DataError",
        f'cannot load the dataset "user/plain?revision=nowhere" {HUB} it has no revision "nowhere". '
        "Give a branch, tag or commit of it",
    ),
    (
        "user/named",
        "DataError",
        f'cannot load the dataset "user/named" {HUB} it has several configurations and none is named; '
        "there are en, it. Choose one with ?name=…",
    ),
    (
        "user/named?name=fr",
        "DataError",
        f'cannot load the dataset "user/named?name=fr" {HUB} it has no configuration "fr"; there are en, it. '
        "Choose one with ?name=…",
    ),
    (
        "user/nothing",
        "DataError",
        f'cannot load the dataset "user/nothing" {HUB} there is none of this name, or it is private and HF_TOKEN is '
        "not set. Check its spelling; a local file is written with its folder, like ./data.jsonl",
    ),
    (
        "user/gated",
        "DataError",
        f'cannot load the dataset "user/gated" {HUB} access to it is granted one by one, and HF_TOKEN is not set. '
        "Ask for access on its page, and set HF_TOKEN to a token of that account",
    ),
    (
        "user/script",
        "DataError",
        f'cannot load the dataset "user/script" {HUB} it is a loading script, and code is never run. '
        "Use its Parquet revision",
    ),
    (
        "user/a b",
        "DataError",
        f'cannot load the dataset "user/a b" {HUB} an id is `name` or `user/name`. Correct it',
    ),
    (
        "user/plain?streaming=yes",
        "ConfigError",
        'the option streaming="yes" is neither true nor false. Write streaming=true',
    ),
    (
        "user/plain?trust_remote_code=true",
        "ConfigError",
        'the id "user/plain?trust_remote_code=true" has the option "trust_remote_code", which is unknown: '
        "known here: name, split, revision, streaming, rows. Remove it",
    ),
]


def test_rows_arrive_as_they_are(hub: Hub, tmp_path: Path) -> None:
    answers = load([(text, purpose) for text, purpose, _ in LOADED], tmp_path, HF_ENDPOINT=hub.url)
    assert answers == [dataset(rows) for _, _, rows in LOADED]


def test_what_cannot_be_loaded_is_one_line(hub: Hub, tmp_path: Path) -> None:
    answers = load([(text, "training") for text, _, _ in REFUSED], tmp_path, HF_ENDPOINT=hub.url)
    assert [(answer["kind"], answer.get("text")) for answer in answers] == [wanted[1:] for wanted in REFUSED]


def test_broken_and_empty_repositories_are_one_line(hub: Hub, tmp_path: Path) -> None:
    broken, empty = load([("user/broken", "training"), ("user/empty", "training")], tmp_path, HF_ENDPOINT=hub.url)
    assert empty["text"] == (
        f'cannot load the dataset "user/empty" {HUB} it holds no data files that can be read. '
        "Check its page and the revision"
    )
    # Before version 3, pandas does not say where.
    assert broken["text"].replace(" at position 13", "") == (
        f'cannot load the dataset "user/broken" {HUB} ValueError: Expected object or value. '
        "Check the dataset's page, or download it and name a local file"
    )


def test_the_token_opens_a_gated_dataset_and_only_the_environment_gives_it(hub: Hub, tmp_path: Path) -> None:
    hub.requests.clear()
    assert load([("user/gated", "training")], tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN) == [dataset(TRAIN)]
    assert {token for _, path, token in hub.requests if "/resolve/" in path} == {TOKEN}
    other_home = tmp_path / "other"  # with nothing cached
    other_home.mkdir()
    (answer,) = load([("user/gated", "training")], other_home, HF_ENDPOINT=hub.url, HF_TOKEN="hf_of_somebody_else")
    assert "HF_TOKEN is set, and not enough" in answer["text"]
    assert "hf_of_somebody_else" not in answer["text"]


def test_offline_serves_the_cache_and_says_what_it_lacks(hub: Hub, tmp_path: Path) -> None:
    load([("user/plain", "training")], tmp_path, HF_ENDPOINT=hub.url)
    cached, missing = load(
        [("user/plain", "training"), ("user/columnar", "training")], tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1"
    )
    assert cached == dataset(TRAIN)
    assert missing["text"] == (
        f'cannot load the dataset "user/columnar" {HUB} HF_HUB_OFFLINE is set and it is not in the local cache. '
        "Unset HF_HUB_OFFLINE, or name a local file"
    )


def test_a_token_that_the_hub_does_not_know(hub: Hub, tmp_path: Path) -> None:
    (answer,) = load([("user/plain", "training")], tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_revoked")
    assert answer["text"] == (
        f'cannot load the dataset "user/plain" {HUB} the Hub refuses access, and HF_TOKEN is set, and not enough. '
        "Set HF_TOKEN to a token that may read it"
    )


@pytest.mark.slow  # the Hub's client asks six times before it gives up
def test_an_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    (answer,) = load([("user/plain", "training")], tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert answer["text"] == (
        f'cannot load the dataset "user/plain" {HUB} nothing answers at http://127.0.0.1:9. '
        "Check the network, HF_ENDPOINT and the proxy, or name a local file"
    )
