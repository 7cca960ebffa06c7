"""An MLflow server of the test's own, and what may stand between it and a run."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen


class Server:
    """A `mlflow server` with its SQLite file and its artifacts in one folder; can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 90
        while time.monotonic() < until:
            try:
                with urlopen(f"{self.uri}/health", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (URLError, OSError):
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it as a machine that loses its power would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


@contextmanager
def flaky(uri: str, share: float, seed: int, port: int = 0) -> Iterator[Flaky]:
    """A server in front of `uri` that answers a share of the requests with 500, half of these after they were served."""
    proxy = Flaky(uri, share, seed, port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class Flaky(ThreadingHTTPServer):
    """See `flaky`."""

    daemon_threads = True

    def __init__(self, uri: str, share: float, seed: int, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Passing)
        self.target, self.share, self.luck = urlsplit(uri).netloc, share, random.Random(seed)
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self.served = self.failed = 0


class _Passing(BaseHTTPRequestHandler):
    server: Flaky

    def do_GET(self) -> None:
        body = self._body()
        lot = self.server.luck.random()
        if lot < self.server.share / 2:
            self._answer(500, b"out of luck", {})
            self.server.failed += 1
            return
        behind = HTTPConnection(self.server.target, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        behind.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        answer = behind.getresponse()
        content = answer.read()
        behind.close()
        if lot < self.server.share:
            self._answer(500, b"served, and the answer is lost", {})
            self.server.failed += 1
            return
        kept = ("content-type",)
        self._answer(
            answer.status, content, {name: value for name, value in answer.getheaders() if name.lower() in kept}
        )
        self.server.served += 1

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """What came is counted, not printed."""


def free_port() -> int:
    """A port that nobody has, and that the system gives to nobody who asks for any: other tests do so all the time."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield int(listener.getsockname()[1])
