"""A registry on loopback, which counts what it is asked for and fails on demand."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry_loader_ftcore import store


class Registry:
    """Attributes:
    folder: its files.
    asked: the paths of all requests.
    tokens: the Authorization header of each.
    faults: answers for the next requests: a status, or "cut" for half of a file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.faults: list[int | str] = []
        self.stages: dict[str, str] = {}
        self.versions: dict[str, Any] = {}

    def add(self, version: str, source: Path, **stages: str) -> None:
        """Publish a folder as a version of the model `assistant`."""
        target = self.folder / "assistant" / version
        shutil.copytree(source, target)
        files = {
            str(path.relative_to(target)): {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "bytes": path.stat().st_size,
            }
            for path in target.rglob("*")
            if path.is_file()
        }
        self.versions[version] = {"files": files}
        self.stage(**stages)

    def stage(self, **stages: str) -> None:
        """Let stages mean versions from now on."""
        self.stages |= stages
        index = {"models": {"assistant": {"stages": self.stages, "versions": self.versions}}}
        (self.folder / "index.json").write_text(json.dumps(index), encoding="utf-8")

    def downloads(self) -> list[str]:
        """What was asked for besides the index."""
        return [path for path in self.asked if path != "/index.json"]


class Handler(SimpleHTTPRequestHandler):
    registry: Registry

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(self.registry.folder))

    def do_GET(self) -> None:
        self.registry.asked.append(self.path)
        self.registry.tokens.append(self.headers["Authorization"])
        fault = self.registry.faults.pop(0) if self.registry.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
        elif fault == "cut":
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
        else:
            super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(tmp_path / "registry")


@pytest.fixture
def url(registry: Registry) -> Iterator[str]:
    """The address at which the registry is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Handler,), {"registry": registry}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REGISTRY_TOKEN", raising=False)
    monkeypatch.setattr(store, "_PAUSES", (0.0, 0.0))
