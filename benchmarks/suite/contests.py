"""Contestants in turn: round after round, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contestants.job import Job

from suite.children import Measured, measure

_SCRIPTS = Path(__file__).parents[1] / "contestants"
CONTESTANTS = {
    "ftcore (unsloth)": ("ftcore_contestant.py", "unsloth"),
    "ftcore (transformers)": ("ftcore_contestant.py", "transformers"),
    "ftcore (unsloth), unsloth's forward": ("ftcore_contestant.py", "unsloth", "round_once = false"),
    "ftcore (transformers), PEFT's forward": ("ftcore_contestant.py", "transformers", "round_once = false"),
    "unsloth script": ("unsloth_script.py",),
    "TRL script": ("trl_script.py",),
    "floor": ("floor.py",),
}
"""Their names in results and tables: the script, and what it is called with behind the job."""

_NEED_UNSLOTH = (
    "ftcore (unsloth)",
    "ftcore (unsloth), unsloth's forward",
    "unsloth script",
    "unsloth --help",
    "import FastLanguageModel",
)
TRAINERS = ("ftcore (unsloth)", "ftcore (transformers)", "unsloth script", "TRL script")
FORWARDS = tuple(CONTESTANTS)[:5]
"""Each loader with ftcore's forward of an adapter and with its library's, and who shall not be faster."""

Sample = dict[str, Any]
"""One measurement: `contestant`, `round`, what tells cases apart, and numbers."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: how often each contestant has its turn.
        threads: of torch, in each contestant.
        model: folder of the model.
        max_length: of a sequence, in tokens.
        forms: packing and checkpointing, of each case of training.
        processes: of preparation, one case for each.
        commands: who runs whole commands.
        forwards: who trains with a forward of the adapter of its own.
        training_rows, command_rows, preparation_rows: GSM8K rows, repeated with other numbers where there are not enough.
        scaling_rows: sizes of the synthetic data.
    """

    rounds: int
    threads: int
    model: Path
    max_length: int
    forms: tuple[tuple[bool, bool], ...]
    processes: tuple[int, ...]
    commands: tuple[str, ...]
    forwards: tuple[str, ...]
    training_rows: int
    command_rows: int
    preparation_rows: int
    scaling_rows: tuple[int, ...]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a contestant, with caches of its own: what it leaves there, only its own second run finds."""
    folder = Path(tempfile.mkdtemp(prefix="ftcore-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def contest(name: str, job: Job, folder: Path, threads: int) -> tuple[Measured, dict[str, Any]]:
    """One contestant does one job; what was seen from outside, and what it reported."""
    script, *arguments = CONTESTANTS[name]
    job.write(folder / "job.json")
    caches = {"HF_HOME": str(folder / "hf"), "FTCORE_CACHE": str(folder / "ftcore")}
    seen = measure(
        [sys.executable, str(_SCRIPTS / script), str(folder / "job.json"), *arguments], folder, threads, caches
    )
    return seen, json.loads((folder / "report.json").read_text(encoding="utf-8"))


def rounds(
    count: int,
    cases: Sequence[Mapping[str, Any]],
    contestants: Iterable[str],
    once: Callable[..., Iterable[Sample]],
    say: Callable[[str], None],
) -> list[Sample]:
    """Every contestant in every case, `count` times, in turn, so that what the machine does besides hits all alike.

    Where unsloth is not installed, those that need it are left out.

    Args:
        once: called with the contestant's name and the case's values; the samples that it measured.
    """
    names = [name for name in contestants if name not in _NEED_UNSLOTH or find_spec("unsloth")]
    samples: list[Sample] = []
    for number in range(1, count + 1):
        for case in cases:
            for name in names:
                for values in once(name, **case):
                    sample = {"contestant": name, "round": number, **case, **values}
                    samples.append(sample)
                    say("  ".join(f"{key} {_short(value)}" for key, value in sample.items()))
    return samples


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
