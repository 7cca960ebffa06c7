"""Kills runs with SIGKILL at random moments, resumes them, and compares them with an undisturbed one.

    python tests/e2e/killing.py FOLDER --moments 50 --seed 1

Each run is a process of its own, forked from this one, which has imported torch already. A third of the moments is
anywhere in a process's life, a third after the first checkpoint, and a third while a checkpoint is being written. One
run in four is killed a second time. Prints a line for each, and ends with 1 where a resumed run came to other losses
or weights.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

CONFIG = """
[fine_tuner]
base_model_id = "model"
training_data_id = "train.jsonl"
validation_data_id = "validation.jsonl"
load_in_4bit = false
epochs = 2
device_train_batch_size = 2
grad_accumulation = 2
optimizer = "adamw_torch"
lr_scheduler_type = "cosine"
save_steps = 2
save_total_limit = 2
log_steps = 3

[stages]
loader = "transformers"

[run]
output_dir = "runs"
"""


def prepare(folder: Path) -> None:
    """A model, data and a configuration."""
    from ftcore.testing.models import tiny_model

    tiny_model(folder / "model")
    for name, count in (("train", 24), ("validation", 4)):
        rows = [
            {"question": f"How many are {number} and 1?", "answer": f"There are {number + 1}. " * (1 + number % 3)}
            for number in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")


def start(folder: Path, name: str, *options: str) -> int:
    """`ftcore run --set run.name=NAME` in a process of its own; returns its number."""
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        log = os.open(f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from ftcore.cli.main import main

        main(["run", "config.toml", "--set", f"run.name={name}", *options])
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    finally:
        os._exit(1)


def wait(process: int) -> int:
    """The exit status; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@dataclass(frozen=True)
class Came:
    """What a run came to: every logged line without its time, and the hashes of the trained weights."""

    lines: list[dict[str, Any]]
    weights: str
    status: str
    train_loss: float

    @classmethod
    def of(cls, run: Path) -> Came:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            del line["time"]
        weights = hashlib.sha256((run / "model" / "adapter_model.safetensors").read_bytes()).hexdigest()
        manifest = json.loads((run / "manifest.json").read_text())
        return cls(lines, weights, manifest["status"], manifest["metrics"]["train_loss"])


def kill_when(process: int, moment: Callable[[], bool], longest: float) -> bool:
    """Kill the process when the moment has come; whether it was still there."""
    until = time.monotonic() + longest
    while not moment() and time.monotonic() < until:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.0002)
    os.kill(process, signal.SIGKILL)
    return True


def moments(run: Path, duration: float, chance: random.Random) -> tuple[str, Callable[[], bool]]:
    """A kind of moment, and whether it has come."""
    kind = chance.choice(("anywhere", "behind a checkpoint", "while one is written"))
    began = time.monotonic()
    if kind == "anywhere":
        at = began + chance.uniform(0, duration)
        return f"{kind}: {at - began:.3f} s", lambda: time.monotonic() >= at
    wanted, delay = chance.randint(1, 6), chance.uniform(0, 0.02 if kind[0] == "w" else 0.3)
    seen: list[float] = []
    writing, checkpoints = run / "checkpoints" / ".writing", run / "checkpoints"
    there = [False]

    def come() -> bool:
        if kind[0] == "w":
            if writing.exists() and not there[0]:
                seen.append(time.monotonic())
            there[0] = writing.exists()
            return len(seen) >= wanted and time.monotonic() >= seen[wanted - 1] + delay
        if not seen and any(checkpoints.glob("checkpoint-[1-9]*")):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + delay

    return f"{kind}: {'number ' + str(wanted) + ', ' if kind[0] == 'w' else ''}{1000 * delay:.1f} ms", come


def disturbed(folder: Path, name: str, duration: float, chance: random.Random) -> str:
    """A run that is killed once or twice, and then goes on to its end; what was done to it."""
    story = []
    for _ in range(2 if chance.random() < 0.25 else 1):
        kind, come = moments(folder / "runs" / name, duration, chance)
        process = start(folder, name, "--resume")
        killed = kill_when(process, come, 2 * duration)
        wait(process)
        begun = sorted(folder.glob(f"runs/{name}/checkpoints/*/checkpoint-*")) + sorted(
            folder.glob(f"runs/{name}/checkpoints/checkpoint-*")
        )
        there = ", ".join(str(path.relative_to(folder / "runs" / name / "checkpoints")) for path in begun)
        story.append(f"{kind} ({'killed' if killed else 'over before'}; {there or 'no checkpoint'})")
    for _ in range(3):
        status = wait(start(folder, name, "--resume"))
        if status == 0:
            return "; then ".join(story)
    raise RuntimeError(f"the run does not go on ({status}): see {folder / name}.txt")


def main() -> int:
    """The script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401
    import trl  # noqa: F401

    folder: Path = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    if status := wait(start(folder, "first")):  # also fills the cache of prepared data
        return status
    began = time.monotonic()
    if status := wait(start(folder, "whole")):
        return status
    duration = time.monotonic() - began
    whole = Came.of(folder / "runs" / "whole")
    if Came.of(folder / "runs" / "first") != whole:
        print("two undisturbed runs differ")
        return 1
    print(f"an undisturbed run takes {duration:.1f} s and logs {len(whole.lines)} lines", flush=True)
    chance, wrong = random.Random(given.seed), 0
    for number in range(given.moments):
        name = f"killed-{number}"
        story = disturbed(folder, name, duration, chance)
        came = Came.of(folder / "runs" / name)
        wrong += came != whole
        print(f"{'same ' if came == whole else 'OTHER'} {story}", flush=True)
    with contextlib.suppress(OSError):
        print(json.dumps({"moments": given.moments, "different": wrong, "seconds": round(duration, 1)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
