"""What is left of a LoRA adapter in bfloat16: as PEFT computes it, rounded once, and merged.

python benchmarks/lora_rounding.py                     all cells that are not in the results yet, then the page
python benchmarks/lora_rounding.py --only SmolLM2 --seeds 1
python benchmarks/lora_rounding.py --page              write docs/rounding.md's tables and plots again
python benchmarks/lora_rounding.py --quick --out FILE  a tiny model and few steps: shows that it runs

Each cell (a model, a learning rate, a rank, a seed) is an adapter of 20 steps and its losses on 40 held-out rows of GSM8K.
It is written to results/lora_rounding.json as soon as it is done, so that the script can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from suite import machine
from suite.workload import tiny

RESULTS = Path(__file__).parent / "results" / "lora_rounding.json"

RATES, RANKS, SEEDS, STEPS = (1e-5, 2e-5, 2e-4, 5e-4), (8, 64), 3, 20
COURSE, COURSE_RATE, COURSE_RANK = (10, 20, 40, 60), 2e-4, 16
HELD_OUT = 40


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="models whose name begins so")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="tiny model, few steps, one seed; needs --out")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument(
        "--out", type=Path, help="file for the results instead of benchmarks/results/lora_rounding.json"
    )
    given = parser.parse_args()
    if given.quick and given.out is None:
        parser.error("--quick measures nothing that may stand among the results: give --out")
    return given


def main() -> None:
    """Measure what is missing, write the page."""
    given = arguments()
    if not given.page:
        with tempfile.TemporaryDirectory(prefix="ftcore-bench-data-") as name:
            measure(given, Path(name))
    if given.out is None:
        from rounding.page import write_page

        print("wrote", write_page(RESULTS))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """All cells that the results lack."""
    from rounding.models import Tiny, subjects

    results = Results(given.out or RESULTS)
    if given.quick:
        found: list[Any] = [Tiny("tiny", tiny(folder / "model"))]
        rates, ranks, seeds, steps, course, held_out = (1e-3,), (4,), 1, 2, (1, 2), 4
    else:
        found = [subject for subject in subjects() if subject.name.startswith(given.only)]
        rates, ranks, seeds, steps, course, held_out = RATES, RANKS, given.seeds, STEPS, COURSE, HELD_OUT
    for seed in range(seeds):
        for subject in found:
            examples = subject.examples(subject.held_out_rows(held_out))
            results.about(subject.name, subject.about)
            for rate, rank in ((rate, rank) for rank in ranks for rate in rates):
                case = {"model": subject.name, "lr": rate, "rank": rank, "seed": seed}
                results.add(
                    "cells",
                    case,
                    lambda case=case, subject=subject, examples=examples: _cell(case, subject, examples, steps),
                )
            case = {"model": subject.name, "lr": COURSE_RATE, "rank": COURSE_RANK, "seed": seed}
            results.add(
                "course",
                case,
                lambda case=case, subject=subject, examples=examples: _course(case, subject, examples, course),
            )


def _cell(case: dict[str, Any], subject: Any, held_out: Any, steps: int) -> dict[str, Any]:
    from rounding.cells import FORMS, losses, trained

    ((_, model),) = trained(subject, case["rank"], case["lr"], case["seed"], (steps,))
    return {"losses": losses(subject, model, held_out, FORMS)}


def _course(case: dict[str, Any], subject: Any, held_out: Any, steps: tuple[int, ...]) -> dict[str, Any]:
    from rounding.cells import losses, trained

    return {
        "steps": {
            str(step): losses(subject, model, held_out, ("fp32", "peft", "once"))
            for step, model in trained(subject, case["rank"], case["lr"], case["seed"], steps)
        }
    }


class Results:
    """The file with what was measured so far.

    Args:
        path: made with the first result.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def about(self, model: str, text: str) -> None:
        """What one has to know of a model."""
        self._known.setdefault("models", {})[model] = text

    def add(self, kind: str, case: dict[str, Any], measured: Any) -> None:
        """Measure a case that is not there, and write it down."""
        samples = self._known.setdefault(kind, [])
        if any(all(sample[key] == value for key, value in case.items()) for sample in samples):
            return
        began = time.monotonic()
        sample = {**case, **measured(), "seconds": round(time.monotonic() - began, 1)}
        samples.append(sample)
        print(json.dumps(sample), flush=True)
        self._known |= {"date": date.today().isoformat(), "machine": machine.machine(), "versions": machine.versions()}
        self._known["threads"] = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps(self._known, indent=1) + "\n", encoding="utf-8")
        scratch.replace(self._path)


if __name__ == "__main__":
    sys.exit(main())
