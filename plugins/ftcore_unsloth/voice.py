"""unsloth's voice: its banners are kept off the console, and what it does otherwise than asked becomes a warning."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator

from ftcore.contracts import Run

_NEWS = re.compile(r"\b(instead|ignored|emulated|not supported|turning it off|pre-quantized|truncate|extended)\b")
"""Words of the lines in which it departs from what it was told."""

_PREFIX = re.compile(r"^(Unsloth( \(CPU\))?:\s*)")

# Once for each line and process: it is the same news for the tokenizer and the model.
_told: set[str] = set()


@contextlib.contextmanager
def heard(run: Run) -> Iterator[None]:
    """Collects what unsloth prints inside the block, and warns of what matters."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            text = _PREFIX.sub("", line.strip())
            if _NEWS.search(text) and "no GPU found" not in text and text not in _told:
                _told.add(text)
                run.warn(f"unsloth: {text}")
