"""What a configuration may say under `[acme]`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import field_validator

from ftcore.settings import Section

PASSWORD = "ACME_DATABASE_PASSWORD"  # noqa: S105 (the name of a variable)
"""The environment variable with the database's password."""


class AcmeSettings(Section):
    """The `[acme]` section. With the defaults, this plugin does nothing that it is not asked for by name."""

    # Where things lie, and what is noted besides, decides nothing about what is learned.
    may_change: ClassVar = frozenset({"name_runs", "database_url", "model_store", "archive_dir", "turnstile", "diary"})

    name_runs: bool = False
    """Name runs `acme-<time>` where `[run]` gives no name."""

    database_url: str | None = None
    """The database behind `acme:tickets`, as SQLAlchemy writes it: `postgresql+psycopg://reader@db.acme.example/support`, or `sqlite:///tickets.db` for a file beside the configuration. The password is read from the environment variable `ACME_DATABASE_PASSWORD`."""

    model_store: Path = Path("models")
    """The folder whose folders are the models `acme:<name>`."""

    archive_dir: Path = Path("archive")
    """Where the saver puts `<run>.tar.gz`."""

    turnstile: Path = Path("acme.lock")
    """The file that the launcher locks, so that one training at a time runs on a machine."""

    diary: Path | None = None
    """A text file that gets a line when a run starts and when it ends. Null keeps none."""

    @field_validator("database_url")
    @classmethod
    def _has_no_password(cls, url: str | None) -> str | None:
        # What stands in a configuration is copied into run directories and sent to trackers.
        if url is not None:
            parts = urlsplit(url)
            if not parts.scheme or "://" not in url:
                raise ValueError("is no URL like sqlite:///tickets.db")
            if parts.password is not None or "password" in parts.query.lower():
                raise ValueError(f"has a password in it: take it out, and put it into the variable {PASSWORD}")
        return url


def sqlite_file(url: str, base_dir: Path) -> Path | None:
    """The file that a URL like `sqlite:///tickets.db` means; None for another kind of database."""
    kind, _, rest = url.partition("://")
    file = rest.removeprefix("/").partition("?")[0]
    return base_dir / Path(file).expanduser() if kind.startswith("sqlite") else None
