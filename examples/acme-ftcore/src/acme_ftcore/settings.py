"""What a configuration may say under `[acme]`."""

from __future__ import annotations

from pathlib import Path

from ftcore.settings import Section


class AcmeSettings(Section):
    """The `[acme]` section. With the defaults, this plugin does nothing that it is not asked for by name."""

    name_runs: bool = False
    """Name runs `acme-<time>`, whatever `[run]` says."""

    database: Path | None = None
    """The SQLite database behind `acme:tickets`; relative to the configuration file."""

    model_store: Path = Path("models")
    """The folder whose folders are the models `acme:<name>`."""

    archive_dir: Path = Path("archive")
    """Where the saver puts `<run>.tar.gz`."""

    turnstile: Path = Path("acme.lock")
    """The file that the launcher locks, so that one training at a time runs on a machine."""

    diary: Path | None = None
    """A text file that gets a line when a run starts and when it ends. Null keeps none."""
