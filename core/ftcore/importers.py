"""Who imported a heavy library first: some plugins (unsloth's) must come before others, and blame needs a name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

WATCHED = ("torch", "transformers", "trl", "peft", "datasets")
"""The libraries whose first import is remembered."""

# What has been imported is a fact of the process, and so is who did it.
_first: dict[str, str] = {}


@contextmanager
def on_behalf_of(plugin: str) -> Iterator[None]:
    """Imports that happen inside the block for the first time are the plugin's."""
    before = {name for name in WATCHED if name in sys.modules}
    try:
        yield
    finally:
        for name in WATCHED:
            if name in sys.modules and name not in before:
                _first.setdefault(name, plugin)


def imported_by(module: str) -> str | None:
    """The plugin that imported a watched library first; None if it was nobody's, or not imported at all."""
    return _first.get(module)
