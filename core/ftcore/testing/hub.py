"""A Hugging Face Hub on loopback, for tests: the real `huggingface_hub` client talks to it over HTTP.

    with FakeHub() as hub:
        hub.add_token("hf_write", user="ada")
        api = HfApi(endpoint=hub.url, token="hf_write")
        api.create_repo("ada/model", private=True)

It serves model repositories: who am I, create, branches, pre-upload, LFS (basic transfer), commits, listings and
downloads, with the Hub's status codes and error headers. Datasets can be added, listed and read, by `datasets` too. It
does not speak Xet: a client that has `hf_xet` must run with `HF_HUB_DISABLE_XET=1` (see `FakeHub.environment`).
"""

from __future__ import annotations

import re
import secrets
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ftcore.testing.hub_answers import Answer, Role, State, Token, refusal
from ftcore.testing.hub_routes import answer
from ftcore.testing.hub_storage import Repository


@dataclass
class Fault:
    """What happens to the next `times` requests whose method and path match."""

    pattern: str
    times: int
    status: int | None = None
    method: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0
    drop: bool = False
    done_first: bool = False


@dataclass(frozen=True)
class Request:
    """A request that came in: method, path, and the status it was answered with (0: the line was cut)."""

    method: str
    path: str
    status: int


class FakeHub:
    """The server; a context manager that serves from a thread until the block ends.

    Attributes:
        requests: every request so far, in the order of the answers.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._state = State(f"http://127.0.0.1:{self._server.server_address[1]}")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The endpoint, without a slash at the end."""
        return self._state.url

    @property
    def repos(self) -> dict[str, Repository]:
        """The models' repositories by id; tests may read them, and add to them."""
        return self._state.repos

    @property
    def datasets(self) -> dict[str, Repository]:
        """The datasets' repositories by id."""
        return self._state.datasets

    def add_dataset(self, repo_id: str, files: Mapping[str, bytes], *, private: bool = False) -> Repository:
        """Let a dataset be there, with the contents of its files by path, e.g. `{"train.jsonl": b"…"}`."""
        self.datasets[repo_id] = Repository(repo_id, private)
        self.datasets[repo_id].add(files)
        return self.datasets[repo_id]

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_token(
        self, token: str, user: str, role: Role = "write", orgs: Sequence[str] = (), writes: Sequence[str] = ()
    ) -> str:
        """Let a token in; returns it. `writes` is for fine-grained ones."""
        self._state.tokens[token] = Token(user, role, tuple(orgs), tuple(writes))
        return token

    def environment(self, token: str) -> dict[str, str]:
        """The variables that point a process at this Hub; set them before it imports `huggingface_hub`."""
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}

    def fail(
        self,
        pattern: str,
        status: int,
        times: int = 1,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        message: str = "",
    ) -> None:
        """Answer the next `times` requests with `status`; `pattern` is a regular expression sought in the path."""
        self._add(Fault(pattern, times, status, method, headers or {}, message))

    def delay(self, pattern: str, seconds: float, times: int = 1, *, method: str | None = None) -> None:
        """Let the next `times` requests wait before they are answered as usual."""
        self._add(Fault(pattern, times, method=method, seconds=seconds))

    def drop(self, pattern: str, times: int = 1, *, method: str | None = None, done_first: bool = False) -> None:
        """Cut the line of the next `times` requests instead of an answer; with `done_first` only the answer is lost."""
        self._add(Fault(pattern, times, method=method, drop=True, done_first=done_first))

    def count(self, pattern: str, method: str | None = None) -> int:
        """How many requests so far match."""
        with self._lock:
            return sum(1 for one in self.requests if re.search(pattern, one.path) and method in (None, one.method))

    def _next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.method in (None, method) and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return None

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _record(self, method: str, path: str, status: int) -> None:
        with self._lock:
            self.requests.append(Request(method, path, status))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: FakeHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that hangs up is none of our errors
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        hub, (_, _, path, query, _) = self.server.hub, urlsplit(self.path)
        body = self._body()
        fault = hub._next_fault(self.command, path)
        if fault and fault.drop:
            if fault.done_first:
                answer(hub._state, self.command, path, self.headers.get("Authorization", ""), body)
            hub._record(self.command, path, 0)
            self.close_connection = True
            return
        if fault and fault.seconds:
            time.sleep(fault.seconds)
        if fault and fault.status:
            reply = refusal(fault.status, fault.message or f"injected {fault.status}", headers=fault.headers)
        else:
            reply = answer(hub._state, self.command, path, self.headers.get("Authorization", ""), body, query)
        reply = _ranged(reply, self.headers.get("Range", ""))
        hub._record(self.command, path, reply.status)
        try:
            self._send(reply)
        except (BrokenPipeError, ConnectionResetError):  # the client did not wait
            self.close_connection = True

    def _send(self, reply: Answer) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, "X-Request-Id": secrets.token_hex(8)}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in `FakeHub.requests`, not printed."""


def _ranged(reply: Answer, asked: str) -> Answer:
    """The part of a file that a client asked for, as `bytes=FIRST-LAST`; the answer as it is where it asked for none."""
    if reply.status != 200 or not asked:
        return reply
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last or len(reply.body)) + 1, len(reply.body))
    headers = {**reply.headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(reply.body)}"}
    return Answer(206, reply.body[start:stop], headers)
