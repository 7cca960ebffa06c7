"""What was measured on, without names: processor, cores, memory, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "ftcore", "unsloth", "unsloth_zoo", "torch", "transformers", "trl", "peft", "datasets", "accelerate",
    "tokenizers", "pyarrow", "click", "pluggy", "pydantic",
)  # fmt: skip
_COMPUTES_IN = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def machine() -> dict[str, Any]:
    """Processor, what it multiplies with, cores that may be used, memory in GiB, system."""
    info = _fields(Path("/proc/cpuinfo"))
    flags = set((info.get("flags") or info.get("Features") or "").split())
    memory = _fields(Path("/proc/meminfo")).get("MemTotal", "0 kB")
    return {
        "processor": info.get("model name", platform.machine()),
        "features": [name for name in _COMPUTES_IN if name in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.split()[0]) / 2**20),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python and the packages that matter; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load() -> float:
    """How many processes wanted a core in the last minute, on average."""
    return os.getloadavg()[0]


def _fields(path: Path) -> dict[str, str]:
    """The first value of each `name : value` line."""
    fields: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return fields
