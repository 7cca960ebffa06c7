"""Databases with the demo's tickets: a SQLite file, and a PostgreSQL server where there is one to start."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url

from acme_ftcore.database import TICKETS
from acme_ftcore.policy import VARIABLE
from acme_ftcore.settings import PASSWORD

SECRET = "carrots-and-anvils"  # the server's; long enough to be searched for


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test leaves anything in the user's cache, or depends on what the machine's owner has set."""
    for variable in (PASSWORD, VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL, password left out, of a PostgreSQL server of its own; it and its files are gone afterwards."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'acme-ftcore[postgres]'")
    user = "postgres" if getpass.getuser() == "root" else None  # the server does not run as root
    folder = Path(tempfile.mkdtemp(prefix="acme-postgres-"))
    (folder / "password").write_text(SECRET)
    if user is not None:
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)

    def program(name: str, *arguments: str | Path) -> None:
        command = [programs / name, "-D", folder / "data", *arguments]
        subprocess.run(command, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

    try:
        program("initdb", "--username=reader", "--pwfile", folder / "password", "--auth=scram-sha-256", "--no-sync")
        port = _free_port()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        program("pg_ctl", "-w", "-o", options, "-l", folder / "log", "start")
        try:
            yield f"postgresql+psycopg://reader@127.0.0.1:{port}/postgres"
        finally:
            program("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database without a table, as `[acme] database_url` has it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tickets.db"
    url: str = request.getfixturevalue("server")
    monkeypatch.setenv(PASSWORD, SECRET)
    with _changing(url) as connection:
        TICKETS.metadata.drop_all(connection)
    return url


@contextmanager
def _changing(url: str) -> Iterator[Connection]:
    address = make_url(url)
    engine = create_engine(address.set(password=SECRET) if address.host else address)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def changing() -> Callable[[str], AbstractContextManager[Connection]]:
    """Opens a database to change it, which the plugin itself never does."""
    return _changing


def _programs() -> Path | None:
    """The folder with initdb; Debian has it outside of the PATH."""
    found = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *_debians()]))
    return None if found is None else Path(found).parent


def _debians() -> list[str]:
    return [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
