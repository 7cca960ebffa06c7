"""Measures ftcore beside the scripts that its users would write otherwise.

python benchmarks/run.py                          everything, three rounds
python benchmarks/run.py --only training,startup  some of it
python benchmarks/run.py --rounds 1 --append      one round more beside those that were measured before
python benchmarks/run.py --quick --out FOLDER     on a tiny model, once: shows that it runs, measures nothing

Each item's samples go to results/ITEM.json; then docs/benchmarks.md is written again from all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from report import RESULTS, write_page
from suite import machine
from suite.contests import FORWARDS, TRAINERS, Scale
from suite.items import ITEMS
from suite.workload import smollm2, tiny


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ITEMS), help=f"of {','.join(ITEMS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch (default: cores)")
    parser.add_argument("--append", action="store_true", help="add the rounds to those that are there already")
    parser.add_argument("--quick", action="store_true", help="tiny model, few rows, one round; needs --out")
    parser.add_argument("--out", type=Path, help="folder for the results instead of benchmarks/results")
    given = parser.parse_args()
    given.items = given.only.split(",")
    if unknown := set(given.items) - ITEMS.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(ITEMS)}")
    if given.quick and given.out is None:
        parser.error("--quick measures nothing that may stand among the results: give --out")
    return given


def main() -> None:
    """Measure, write the samples, write the page."""
    given = arguments()
    if find_spec("unsloth") is None:
        print("unsloth is not installed: its contestants are left out (make bench has them)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="ftcore-bench-data-") as name:
        data = Path(name)
        scale = quick(given.threads, tiny(data / "model")) if given.quick else whole(given.rounds, given.threads)
        for item in given.items:
            measure(item, scale, data, given.out or RESULTS, append=given.append)
    if given.out is None:
        print("wrote", write_page())


def whole(rounds: int, threads: int) -> Scale:
    """What the results are measured with."""
    return Scale(
        rounds,
        threads,
        smollm2(),
        max_length=512,
        forms=((False, False), (False, True), (True, False), (True, True)),
        processes=(1, 2),
        commands=TRAINERS,
        forwards=FORWARDS,
        training_rows=32,
        command_rows=64,
        preparation_rows=7473,
        scaling_rows=(1_000, 10_000, 100_000, 1_000_000),
    )


def quick(threads: int, model: Path) -> Scale:
    """As little as shows that each contestant can do each job."""
    return Scale(
        1,
        threads,
        model,
        max_length=1024,
        forms=((True, True),),
        processes=(2,),
        commands=("ftcore (transformers)", "TRL script"),
        forwards=("ftcore (unsloth), unsloth's forward", "ftcore (transformers), PEFT's forward"),
        training_rows=16,
        command_rows=16,
        preparation_rows=40,
        scaling_rows=(20, 40),
    )


def measure(item: str, scale: Scale, data: Path, out: Path, append: bool = False) -> None:
    """One item's samples, with what one has to know to read them."""
    print(f"== {item}", flush=True)
    path = out / f"{item}.json"
    known = {"machine": machine.machine(), "versions": machine.versions(), "threads": scale.threads}
    before, remark = earlier(path, known) if append and path.exists() else ([], {})
    busy = machine.load()
    samples = ITEMS[item](scale, data, lambda line: print(line, flush=True))
    done = max((sample["round"] for sample in before), default=0)
    samples = before + [{**sample, "round": sample["round"] + done} for sample in samples]
    result = {
        "item": item,
        "date": date.today().isoformat(),
        **known,
        "rounds": max(sample["round"] for sample in samples),
        "load_before": round(busy, 2),
        **remark,
        "samples": samples,
    }
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def earlier(path: Path, known: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The samples of earlier rounds, which must be of the same machine and versions to stand beside new ones.

    With them what somebody has remarked on how they were measured (`remark` in the file), for the page.
    """
    result = json.loads(path.read_text(encoding="utf-8"))
    if other := [key for key, value in known.items() if result[key] != value]:
        sys.exit(f"{path}: measured with other {', '.join(other)}; leave out --append to measure it anew")
    samples: list[dict[str, Any]] = result["samples"]
    return samples, {"remark": result["remark"]} if "remark" in result else {}


if __name__ == "__main__":
    sys.exit(main())
