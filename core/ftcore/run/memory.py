"""How much memory this process takes, how much it could, and how running out of it is recognized."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_SIGNS = (
    "out of memory",  # CUDA, HIP, MPS and XPU
    "can't allocate memory",  # torch's CPU allocator
    "cannot allocate memory",  # the system's own words
    "not enough memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "bad_alloc",
    "unable to allocate",  # numpy
)

_PAUSE = 0.005  # seconds between two looks at the resident memory
_GIB = 2**30


@dataclass
class Peak:
    """What a piece of work took, filled in when it is over.

    Attributes:
        device: "cuda" counts what torch's allocator reserved on the current GPU, "cpu" the process's resident memory.
        before: bytes held when the work began.
        highest: the most bytes held during it.
        tensors: on a GPU, the most bytes that were alive; the allocator reserves more. 0 on a CPU.
    """

    device: Literal["cpu", "cuda"]
    before: int
    highest: int = 0
    tensors: int = 0

    @property
    def growth(self) -> int:
        """Bytes taken on top of what was held before."""
        return max(0, self.highest - self.before)


@contextlib.contextmanager
def measured() -> Iterator[Peak]:
    """The peak of the work inside, on the GPU if torch uses one."""
    with _measured_on_gpu() if cuda() is not None else _measured_here() as peak:
        yield peak


@contextlib.contextmanager
def _measured_on_gpu() -> Iterator[Peak]:
    gpu = cuda()
    peak = Peak("cuda", gpu.memory_reserved())
    gpu.reset_peak_memory_stats()
    try:
        yield peak
    finally:
        peak.highest, peak.tensors = gpu.max_memory_reserved(), gpu.max_memory_allocated()


@contextlib.contextmanager
def _measured_here() -> Iterator[Peak]:
    """Of the resident memory the kernel keeps only the highest value ever; a thread looks for lower peaks."""
    peak = Peak("cpu", resident(), resident())
    highest_ever = _highest_resident()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_PAUSE):
            peak.highest = max(peak.highest, resident())

    watcher = threading.Thread(target=watch, name="ftcore-memory", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        now = _highest_resident()
        peak.highest = now if now > highest_ever else max(peak.highest, resident())


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory ran out."""
    return scarcity(error) is not None


def scarcity(error: BaseException | None) -> BaseException | None:
    """The one in an error's chain of causes that says that memory ran out; None if none does."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or _says_so(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _says_so(error: BaseException) -> bool:
    text = str(error).lower() if isinstance(error, RuntimeError | OSError) else ""
    return any(sign in text for sign in _SIGNS)


def cuda() -> Any:
    """`torch.cuda` where torch is loaded and sees a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def within_reach() -> int:
    """Bytes that this process holds or could still get on the device that it computes on; 0 where that is not known.

    What other processes hold is out of reach; so is what a limit of the container or of the process forbids.
    """
    gpu = cuda()
    if gpu is not None:
        free, _ = gpu.mem_get_info()
        return int(free + gpu.memory_reserved())
    held = resident()
    limits = [held + room for room in (_free(), _container_room(), _address_room()) if room is not None]
    return min(limits, default=0)


def total() -> int:
    """Bytes of the device that this process computes on; 0 where that is not known."""
    gpu = cuda()
    if gpu is not None:
        return int(gpu.get_device_properties(gpu.current_device()).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def resident() -> int:
    """Bytes of memory that this process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return _highest_resident()


def _highest_resident() -> int:
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _free() -> int | None:
    return _fields("/proc/meminfo").get("MemAvailable")


def _container_room() -> int | None:
    """What the control group leaves; reclaimable file pages count as free."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        cached = _statistics(folder / "memory.stat").get("inactive_file", 0)
        return None if limit == "max" else max(0, int(limit) - used + cached)
    except (OSError, ValueError):
        return None


def _address_room() -> int | None:
    """What `ulimit -v` leaves of the address space."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    size = _fields("/proc/self/status").get("VmSize")
    return None if limit == resource.RLIM_INFINITY or size is None else max(0, limit - size)


def _fields(path: str) -> dict[str, int]:
    """The `Name: number kB` lines of a file under /proc, in bytes."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            number = value.split()
            if len(number) == 2 and number[1] == "kB":
                found[name] = int(number[0]) * 1024
    return found


def _statistics(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def gib(count: int) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / 2**20:.0f} MiB"
