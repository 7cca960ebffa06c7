"""Acme's database, read with SQLAlchemy: PostgreSQL at work, a SQLite file to try things."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Column, Connection, Date, Engine, Integer, MetaData, Table, Text, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from acme_ftcore.settings import PASSWORD, AcmeSettings, sqlite_file
from ftcore.errors import ConfigError, DataError

TICKETS = Table(
    "tickets",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("created", Date, nullable=False),
    Column("state", Text, nullable=False),
    Column("product", Text),
    Column("subject", Text),
    Column("body", Text),
    Column("reply", Text),
)

_AT_A_TIME = 1000
"""Rows that are in memory at once: the server keeps the rest behind a cursor."""


@contextmanager
def reading(settings: AcmeSettings, base_dir: Path) -> Iterator[Connection]:
    """A connection that can change nothing, and hands out what it finds in pieces.

    Raises:
        ConfigError: `[acme] database_url` is not set, or names no kind of database.
        DataError: the database cannot be reached or read, now or while the block reads from it.
    """
    url = _address(settings, base_dir)
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            yield connection.execution_options(postgresql_readonly=True, yield_per=_AT_A_TIME)
    except SQLAlchemyError as error:
        raise DataError(
            f"the tickets cannot be read from {url.render_as_string(hide_password=True)}",
            why=str(getattr(error, "orig", None) or error).partition("\n")[0],  # the rest is the statement, and hints
            fix=f"Check [acme] database_url and the variable {PASSWORD}",
        ) from error
    finally:
        engine.dispose()


def _address(settings: AcmeSettings, base_dir: Path) -> URL:
    if settings.database_url is None:
        why = "acme:tickets are read from it"
        raise ConfigError("[acme] database_url is not set", why=why, fix="Set it, e.g. to sqlite:///tickets.db")
    try:
        url = make_url(settings.database_url)
    except ArgumentError:
        raise _no_url(settings.database_url) from None
    file = sqlite_file(settings.database_url, base_dir)
    if file is not None:
        # Opened for reading only: a training must never be what makes an empty database.
        return url.set(database=file.resolve().as_uri(), query={"mode": "ro", "uri": "true"})
    password = os.environ.get(PASSWORD)
    return url.set(password=password) if password else url  # without one, the driver looks where it always does


def _engine(url: URL) -> Engine:
    try:
        return create_engine(url)
    except ModuleNotFoundError as error:
        fix = "pip install 'acme-ftcore[postgres]', or the driver that the URL names"
        raise DataError(f"there is no driver for {url.drivername}", why=str(error), fix=fix) from None
    except (NoSuchModuleError, ArgumentError):
        raise _no_url(url.render_as_string(hide_password=True)) from None


def _no_url(text: str) -> ConfigError:
    return ConfigError(
        f"[acme] database_url cannot be used: {text}",
        why="it names no kind of database that SQLAlchemy knows",
        fix="Write it like postgresql+psycopg://reader@host/name, or sqlite:///tickets.db",
    )
