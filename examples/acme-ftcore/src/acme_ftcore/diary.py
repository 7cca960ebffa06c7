"""The team's diary: one line when a run starts and one when it ends."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path


def note(diary: Path, run: str, text: str) -> None:
    """Add a line; what is raised here becomes a warning of the run and does not end it."""
    with diary.expanduser().open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {run} {' '.join(text.split())}\n")
