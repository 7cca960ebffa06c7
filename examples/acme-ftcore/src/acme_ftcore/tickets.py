"""The data source `acme:tickets`: solved support tickets from a SQLite database."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from acme_ftcore.settings import AcmeSettings
from ftcore.contracts import DataRequest
from ftcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datasets import Dataset

_PATH = re.compile(r"tickets(?:/(?P<month>\d{4}-\d{2}))?")
_SOLVED = "SELECT product, subject, body, reply FROM tickets WHERE state = 'solved' AND created LIKE ? ORDER BY id"
_COLUMNS = ("product", "subject", "body", "reply")


def load_tickets(request: DataRequest, settings: AcmeSettings) -> Dataset:
    """The solved tickets, in the order of their numbers; every tenth is kept for validation.

    Raises:
        ConfigError: the id has options, or `[acme] database` is not set.
        DataError: the id, the file or the table is not what it should be.
    """
    locator = request.locator
    match = _PATH.fullmatch(locator.path)
    if match is None:
        raise DataError(f'there are no data "{locator.text}"', fix="Use acme:tickets, or acme:tickets/2026-10")
    if locator.options:
        raise ConfigError(f'"{locator.text}" has options, and acme:tickets takes none', fix="Remove them")
    rows = _read(database_path(settings, request.base_dir), f"{match['month'] or ''}%")
    held_out = request.purpose == "validation"
    chosen = [row for number, row in enumerate(rows) if (number % 10 == 9) is held_out]

    from datasets import Dataset

    return Dataset.from_dict(dict(zip(_COLUMNS, zip(*chosen, strict=True), strict=True)) if chosen else {})


def database_path(settings: AcmeSettings, base_dir: Path) -> Path:
    """Where the database is meant to be.

    Raises:
        ConfigError: the configuration does not say.
    """
    if settings.database is None:
        raise ConfigError("[acme] database is not set", why="acme:tickets are read from it", fix="Set it to the file")
    return base_dir / settings.database.expanduser()


def _read(database: Path, created: str) -> list[tuple[str, ...]]:
    try:
        # Opened for reading only: a training must never be what creates or changes it.
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(_SOLVED, (created,)).fetchall()
    except sqlite3.Error as error:
        raise DataError(
            f"the tickets in {database} cannot be read", why=str(error), fix="Check [acme] database"
        ) from error
