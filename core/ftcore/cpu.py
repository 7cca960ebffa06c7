"""What the processor is, as the kernel describes it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

NOTABLE = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
"""The features that decide how fast torch computes."""

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def _described() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def model() -> str:
    """The processor's name, or its architecture where it has none."""
    return _described().get("model name") or platform.processor() or platform.machine()


def features() -> list[str]:
    """Those of `NOTABLE` that it has."""
    found = _described()
    flags = set((found.get("flags") or found.get("features") or "").split())
    return [name for name in NOTABLE if name in flags]


def computes_bfloat16() -> bool:
    """Whether it multiplies bfloat16 matrices in hardware (x86 AVX512-BF16 or AMX, Arm BF16)."""
    return bool(_BFLOAT16 & set(features()))
