"""The C library's heap, as far as it decides how much memory a process on a CPU holds.

torch takes CPU memory from glibc, which reuses what is freed only where it fits: a small tensor that is kept (a layer's
input, under gradient checkpointing) lies in the middle of what larger ones have left, and these go elsewhere from then
on. A process can hold nearly twice what its tensors sum up to. Simulated here are glibc's rules that matter for that:
blocks of 32 MiB and more are mapped and unmapped by themselves, the others are taken from the smallest free chunk that
is large enough, neighbouring free chunks are joined, and an aligned block needs room to be aligned in. That room is
given back in pieces of less than 100 bytes, which the small objects that come with a tensor (its descriptor, its node
in autograd's graph) settle in. While one is there, the block beside it cannot be aligned in the same place again once
it is freed (glibc bug 14581).

How many pieces are taken that way is the one number here that was fitted, on nine runs of SmolLM2-135M with the
built-in trainer's functions: six for each ten live blocks and a hundred more. With blocks mapped by themselves
(MALLOC_MMAP_THRESHOLD_=262144), a run held what its tensors sum up to within 1 %.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from typing import Final

_ALIGNMENT: Final = 64  # of torch's CPU tensors, in bytes
_HEADER: Final = 16
_LEAST: Final = 32
_PAGE: Final = 4096
_LAST_THRESHOLD: Final = 32 * 2**20  # reached while the libraries are imported
_CACHED: Final = 1032  # larger pieces are not handed out for small objects
_SETTLERS: Final = 100
_SETTLERS_PER_BLOCK: Final = 0.6


class Heap:
    """Allocates and frees; `highest` is the most bytes it ever held from the system."""

    def __init__(self) -> None:
        self.highest = 0
        self._mapped = 0
        self._live = 0
        self._settled: list[tuple[int, int]] = []  # pieces in which small objects lie: (address, size)
        self._chance = random.Random(0)  # which of them leaves; the same for every trace
        self._top = 0  # where the unused end of the heap begins
        self._end = 0  # how far the system has extended it
        self._sizes: list[tuple[int, int]] = []  # of the free chunks: (size, address), sorted
        self._starts: dict[int, int] = {}  # address → size
        self._ends: dict[int, int] = {}  # end → address
        self._used: dict[int, int] = {}

    def allocate(self, size: int) -> tuple[bool, int]:
        """Whether the block is mapped by itself, and its size or its address."""
        need = max(_LEAST, -(-(size + 8) // 16) * 16)
        padded = need + _ALIGNMENT + _LEAST
        self._live += 1
        if padded >= _LAST_THRESHOLD:
            whole = -(-(padded + 8) // _PAGE) * _PAGE
            self._mapped += whole
            self._measure()
            return True, whole
        start, room = self._take(padded)
        # The user's part begins behind a header and is aligned; what stands before and behind is given back.
        lead = -(start + _HEADER) % _ALIGNMENT
        if 0 < lead < _LEAST:
            lead += _ALIGNMENT
        address = start + lead
        behind = room - lead - need
        self._used[address] = need if behind >= _LEAST else room - lead
        self._settle(start, lead)
        self._settle(address + need, behind if behind >= _LEAST else 0)
        self._measure()
        return False, address

    def free(self, place: tuple[bool, int]) -> None:
        """Give back what `allocate` returned."""
        mapped, value = place
        self._live -= 1
        if mapped:
            self._mapped -= value
            return
        self._give(value, self._used.pop(value))
        while len(self._settled) > self._room():
            self._give(*self._settled.pop(self._chance.randrange(len(self._settled))))
        if self._end - self._top > 2 * _LAST_THRESHOLD:
            self._end = -(-self._top // _PAGE) * _PAGE

    def _settle(self, start: int, size: int) -> None:
        """A piece that is given back: a small object's, while there are enough of these, else free."""
        if 0 < size <= _CACHED and len(self._settled) < self._room():
            self._settled.append((start, size))
        elif size:
            self._give(start, size)

    def _room(self) -> float:
        """How many pieces small objects settle in."""
        return self._live * _SETTLERS_PER_BLOCK + _SETTLERS

    def _take(self, size: int) -> tuple[int, int]:
        at = bisect_left(self._sizes, (size, -1))
        if at < len(self._sizes):
            room, start = self._sizes[at]
            self._remove(start)
            if room - size >= _LEAST:
                self._give(start + size, room - size)
                room = size
            return start, room
        start = self._top
        self._top += size
        self._end = max(self._end, -(-self._top // _PAGE) * _PAGE)
        return start, size

    def _give(self, start: int, size: int) -> None:
        end = start + size
        if end in self._starts:
            after = self._starts[end]
            self._remove(end)
            end += after
        if start in self._ends:
            before = self._ends[start]
            self._remove(before)
            start = before
        if end == self._top:
            self._top = start
            return
        self._starts[start], self._ends[end] = end - start, start
        insort(self._sizes, (end - start, start))

    def _remove(self, start: int) -> None:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._sizes[bisect_left(self._sizes, (size, start))]

    def _measure(self) -> None:
        self.highest = max(self.highest, self._mapped + self._end)
