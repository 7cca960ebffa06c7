"""What it costs a training step that its metrics are logged, with each tracker.

    python benchmarks/reporting.py                 all trackers, a minute each, best on a quiet machine
    python benchmarks/reporting.py --only mlflow   one of them
    python benchmarks/reporting.py --quick --out FILE   a few steps: shows that it runs

A small language model is trained on one thread. Some seconds in which each step is logged, as a run does, alternate with as
many in which none is, in an order drawn by chance. A logged step is compared with its neighbours in two ways: by the clock
("slowed"), which says what it costs and is as noisy as the machine, and by what the whole process computes ("worked"), which
is quiet, and more than training can be slowed by what trackers' clients do beside it. Reported are medians and 95 % intervals
(bootstrap), and the time that `log` itself takes in the training's thread. `mlflow` is a server of its own on loopback,
`wandb` writes offline, `down` is a tracker that nobody answers for, `raises` one that fails at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "reporting.json"
TRACKERS = ("none", "tensorboard", "mlflow", "wandb", "down", "raises")
PHASE, TAIL = 6.0, 2.5  # seconds in which steps are logged, and in which trackers get the last of them
SECONDS = 60.0  # for each tracker


def main() -> None:
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT / "tests" / "plugins"))
    import torch

    torch.set_num_threads(1)
    step = _training(torch, tiny=arguments.quick)
    found = {}
    for name in TRACKERS if arguments.only is None else (arguments.only,):
        found[name] = _measured(name, step, 3.0 if arguments.quick else arguments.seconds)
        facts = found[name]
        print(
            f"{name:<12} step {1000 * facts['step_seconds']:6.1f} ms   log() {1e6 * facts['log_seconds']:5.0f} µs   "
            f"slowed by {_percent(facts, 'slowed')}   worked {_percent(facts, 'worked')}   {facts['pairs']} pairs",
            flush=True,
        )
    out = arguments.out or (None if arguments.only else RESULTS)
    if out is not None:
        out.write_text(
            json.dumps({"date": date.today().isoformat(), "cores": os.cpu_count(), "trackers": found}, indent=1) + "\n"
        )


def _percent(facts: Mapping[str, float], name: str) -> str:
    return f"{100 * facts[name]:.2f} % ({100 * facts[f'{name}_low']:.2f} to {100 * facts[f'{name}_high']:.2f})"


def _measured(name: str, step: Callable[[], float], seconds: float) -> dict[str, float]:
    from ftcore.contracts import RunRecord
    from ftcore.reporting.fan_out import Reporting

    luck = random.Random(0)
    calls: list[float] = []
    pairs: list[tuple[Phase, Phase]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = _run(Path(folder) / "runs" / "r")
        maker = stack.enter_context(_reporter(name, run))
        reporting = Reporting(run.dir, lambda text: None, lambda text: None)
        record = RunRecord("r", run.dir, {f"fine_tuner.key{number}": number for number in range(60)}, {})
        reporting.start({name: maker} if maker else {}, record)
        reporting.log(0, {"loss": 1.0})
        for _ in range(5):
            step()
        if name != "none":
            time.sleep(8.0)  # the tracker is imported and opened: that happens once in a run
        number = 0

        def logging(loss: float) -> None:
            nonlocal number
            number += 1
            called = time.perf_counter()
            reporting.log(number, {"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": 0.1})
            calls.append(time.perf_counter() - called)

        phase = max(1.0, min(PHASE, seconds / 6))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = {}
            for logs in luck.sample((True, False), 2):
                found[logs] = _phase(step, logging if logs else None, phase)
            pairs.append((found[True], found[False]))
        left = reporting.finish("finished", 20.0)
    slowed = [_overhead(logging, silent, "wall") for logging, silent in pairs]
    worked = [_overhead(logging, silent, "work") for logging, silent in pairs]
    return {
        "step_seconds": statistics.median(silent.wall / silent.steps for _, silent in pairs),
        "log_seconds": statistics.median(calls), "pairs": len(pairs), "records": number, "not_taken": sum(left.values()),
        **_spread("slowed", slowed, luck), **_spread("worked", worked, luck),
    }  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """Some seconds of training.

    Attributes:
        steps: how many steps were taken, the tail's included.
        logged: how many of them were logged.
        wall: seconds on the clock.
        work: seconds that this process computed, in all of its threads.
    """

    steps: int
    logged: int
    wall: float
    work: float


def _phase(step: Callable[[], float], log: Callable[[float], None] | None, seconds: float) -> Phase:
    """Train for some seconds, and log each step; then train on without, until trackers have what was logged."""
    steps = logged = 0
    clock, work = time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - clock) < seconds + TAIL:
        loss = step()
        steps += 1
        if log is not None and spent < seconds:
            log(loss)
            logged += 1
    return Phase(steps, logged, time.perf_counter() - clock, time.process_time() - work)


def _overhead(logging: Phase, silent: Phase, what: str) -> float:
    """What a logged step takes longer, as a share of a step."""
    one = getattr(silent, what) / silent.steps
    return float((getattr(logging, what) - logging.steps * one) / logging.logged / one)


def _spread(name: str, values: list[float], luck: random.Random) -> dict[str, float]:
    medians = sorted(statistics.median(luck.choices(values, k=len(values))) for _ in range(2000))
    return {name: statistics.median(values), f"{name}_low": medians[50], f"{name}_high": medians[1949]}


def _training(torch: Any, tiny: bool) -> Callable[[], float]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 1} if tiny else {"hidden_size": 256, "num_hidden_layers": 4}
    config = LlamaConfig(
        vocab_size=2048, intermediate_size=512, num_attention_heads=4, num_key_value_heads=4, pad_token_id=0, **size
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rows = torch.randint(1, 2048, (4, 32 if tiny else 128))

    def step() -> float:
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def _run(folder: Path) -> Any:
    folder.mkdir(parents=True)
    return SimpleNamespace(
        dir=folder, name="r", started_at=datetime(2026, 11, 23, tzinfo=UTC), seed=0, resumed=False,
        settings={"run.report_timeout": 20.0}, say=lambda text: None, warn=lambda text: None,
    )  # fmt: skip


@contextmanager
def _reporter(name: str, run: Any) -> Iterator[Callable[[], Any] | None]:
    """What makes the reporter, with its tracker running."""
    if name == "none":
        yield None
    elif name == "tensorboard":
        from ftcore_tensorboard import TensorboardSettings, ftcore_make_reporter

        yield lambda: ftcore_make_reporter(run, TensorboardSettings())
    elif name == "wandb":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        from ftcore_wandb import WandbSettings
        from ftcore_wandb import ftcore_make_reporter as wandb_reporter

        yield lambda: wandb_reporter(run, WandbSettings(mode="offline"))
    elif name in ("mlflow", "down"):
        from mlflow_parts import Server, silent_port

        from ftcore_mlflow import MlflowSettings
        from ftcore_mlflow import ftcore_make_reporter as mlflow_reporter

        if name == "down":
            with silent_port() as port:
                yield lambda: mlflow_reporter(run, MlflowSettings(tracking_uri=f"http://127.0.0.1:{port}"))
            return
        server = Server(run.dir.parent)
        server.start()
        try:
            yield lambda: mlflow_reporter(run, MlflowSettings(tracking_uri=server.uri))
        finally:
            server.stop()
    else:
        yield _Raises


class _Raises:
    """Fails in every method."""

    def start(self, record: Any) -> str | None:
        raise RuntimeError("start")

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        raise RuntimeError("log")

    def artifact(self, path: Path, name: str) -> None:
        raise RuntimeError("artifact")

    def finish(self, status: str, time: float) -> None:
        raise RuntimeError("finish")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TRACKERS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each tracker")
    parser.add_argument("--quick", action="store_true", help="a tiny model and a few steps")
    parser.add_argument("--out", type=Path, help="where the results are written; by default benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
