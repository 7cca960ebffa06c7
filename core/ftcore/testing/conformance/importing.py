"""The process in which a plugin is imported: `python -m ftcore.testing.conformance.importing TARGET`.

It reads which libraries to hide and which to watch from its input, and prints what came of it as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

TAKEN_FOR_GRANTED = ("contracts", "errors", "files", "plugins", "secrets", "settings.base")
"""The modules of ftcore that are there before a plugin is imported: their time is not the plugin's."""


class Watch(MetaPathFinder):
    """Notes who asks for a watched library, and lets hidden ones seem to be missing."""

    def __init__(self, hidden: Sequence[str], watched: Sequence[str]) -> None:
        self._hidden, self._watched = frozenset(hidden), frozenset(watched)
        self.asked: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in self._watched and top not in self.asked and PathFinder.find_spec(top) is not None:
            self.asked[top] = _place()
        if top in self._hidden:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _place() -> str:
    """The file and line whose import it is."""
    frame = sys._getframe(2)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith("<frozen") or "importlib" in frame.f_code.co_filename
    ):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno}"


def main(target: str) -> None:
    """Import the target, and say what that took."""
    given = json.load(sys.stdin)
    for name in TAKEN_FOR_GRANTED:
        importlib.import_module(f"ftcore.{name}")
    watch = Watch(given["hidden"], given["watched"])
    sys.meta_path.insert(0, watch)
    error, missing = "", ""
    started = time.process_time()
    try:
        found = importlib.import_module(target.partition(":")[0])
        for name in filter(None, target.partition(":")[2].split(".")):
            found = getattr(found, name)
        if hasattr(found, "ftcore_settings"):
            found.ftcore_settings()
    except ModuleNotFoundError as raised:
        error, missing = f"{type(raised).__name__}: {raised}", (raised.name or "").partition(".")[0]
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    seconds = time.process_time() - started
    answer = {"heavy": watch.asked, "seconds": seconds, "error": error, "missing": missing}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
