"""The run's `metrics.jsonl` when a run goes on: a step that is taken again is logged again, not twice."""

from __future__ import annotations

import json
from pathlib import Path

from ftcore import files


def cut(path: Path, step: int) -> int:
    """Keep the lines up to a step; those behind it, and one that a crash left unfinished, go.

    Returns:
        The step of the last evaluation among the lines that stay, -1 without one.
    """
    if not path.exists():
        return -1
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept, evaluated = [], -1
    for line in lines:
        try:
            record = json.loads(line)
            at = int(record["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if at <= step and line.endswith("\n"):
            kept.append(line)
            evaluated = at if "eval_loss" in record else evaluated
    if len(kept) < len(lines):
        files.write_text(path, "".join(kept))
    return evaluated
