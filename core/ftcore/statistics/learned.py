"""What a chunk of rows teaches, and how its rows begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Learned:
    """The supervised tokens of a chunk, row by row."""

    def __init__(self, ids: Any, supervised: Any, offsets: Any, ends: Sequence[int]) -> None:
        import numpy as np

        where = np.flatnonzero(supervised)
        self._ids = ids[where]
        # Where the rows' supervised tokens begin and end in the list of them.
        self._borders: Any = np.searchsorted(where, offsets)
        self.counts = np.diff(self._borders)
        self._is_end = np.isin(self._ids, list(ends))
        running: Any = np.concatenate([[0], np.cumsum(self._is_end)])
        self.with_end = np.diff(running[self._borders]) > 0

    def closed(self, blank: Blank) -> Any:
        """Whether each row's last learned token ends the turn, white space behind it not counted; a bool array."""
        import numpy as np

        closed: Any = np.zeros(len(self.counts), bool)
        last: Any = self._borders[1:] - 1
        has: Any = self.counts > 0
        closed[has] = self._is_end[last[has]]
        # Learning whole conversations, the template's line break behind the last turn is learned too.
        behind: Any = np.flatnonzero((self.counts > 1) & ~closed)
        behind = behind[self._is_end[last[behind] - 1]]
        closed[behind] = blank(self._ids[last[behind]])
        return closed


class Blank:
    """Tells which tokens are white space; each is decoded once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bool] = {}

    def __call__(self, ids: Any) -> Any:
        import numpy as np

        different, index = np.unique(ids, return_inverse=True)
        for token in different.tolist():
            if token not in self._known:
                self._known[token] = not self._tokenizer.decode([token]).strip()
        return np.asarray([self._known[token] for token in different.tolist()], bool)[index]


def doubled(ids: Any, offsets: Any, bos: int | None) -> Any:
    """Which rows begin with two BOS tokens; a bool array of shape [rows]."""
    import numpy as np

    marked: Any = np.zeros(len(offsets) - 1, bool)
    if bos is not None:
        long = np.flatnonzero(np.diff(offsets) >= 2)
        marked[long] = (ids[offsets[long]] == bos) & (ids[offsets[long] + 1] == bos)
    return marked
