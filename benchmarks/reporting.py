"""What it costs a training step that its metrics are logged, with each tracker.

    python benchmarks/reporting.py                 all trackers, a minute each
    python benchmarks/reporting.py --only mlflow   one of them
    python benchmarks/reporting.py --quick --out FILE   a few steps: shows that it runs

A small language model is trained on one thread. Blocks of steps that log each step, as a run does, alternate with blocks
that log nothing, in an order drawn by chance; each pair of neighbours gives a ratio. Reported are the median of the ratios
and its 95 % interval (bootstrap), and the time that `log` itself takes in the training's thread. `mlflow` is a server of its
own on loopback, `wandb` writes offline, `down` is a tracker that nobody answers for, `raises` one that fails at once.
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
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "reporting.json"
TRACKERS = ("none", "tensorboard", "mlflow", "wandb", "down", "raises")
BLOCK = 4  # steps
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
            f"with / without logging {facts['ratio']:.4f} ({facts['low']:.4f} to {facts['high']:.4f}), {facts['pairs']} pairs",
            flush=True,
        )
    out = arguments.out or (None if arguments.only else RESULTS)
    if out is not None:
        out.write_text(
            json.dumps({"date": date.today().isoformat(), "cores": os.cpu_count(), "trackers": found}, indent=1) + "\n"
        )


def _measured(name: str, step: Callable[[], float], seconds: float) -> dict[str, float]:
    from ftcore.reporting import Reporting

    luck = random.Random(0)
    pairs: list[tuple[float, float]] = []
    calls: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = _run(Path(folder) / "runs" / "r")
        maker = stack.enter_context(_reporter(name, run))
        reporting = Reporting(run.dir, lambda text: None, lambda text: None)
        from ftcore.contracts import RunRecord

        record = RunRecord("r", run.dir, {f"fine_tuner.key{number}": number for number in range(60)}, {})
        reporting.start({name: maker} if maker else {}, record)
        reporting.log(0, {"loss": 1.0})
        for _ in range(5):
            step()
        time.sleep(0.0 if name == "none" else 5.0)  # the tracker is imported and opened: that happens once in a run
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            times = {}
            for logs in luck.sample((True, False), 2):
                started = time.perf_counter()
                for _ in range(BLOCK):
                    loss = step()
                    if logs:
                        number += 1
                        called = time.perf_counter()
                        reporting.log(number, {"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": 0.1})
                        calls.append(time.perf_counter() - called)
                times[logs] = (time.perf_counter() - started) / BLOCK
            pairs.append((times[True], times[False]))
        left = reporting.finish("finished", 20.0)
    ratios = [logging / silent for logging, silent in pairs]
    low, high = _interval(ratios, luck)
    return {
        "ratio": statistics.median(ratios), "low": low, "high": high, "pairs": len(pairs),
        "step_seconds": statistics.median(silent for _, silent in pairs), "log_seconds": statistics.median(calls),
        "records": number, "not_taken": sum(left.values()),
    }  # fmt: skip


def _interval(ratios: list[float], luck: random.Random) -> tuple[float, float]:
    medians = sorted(statistics.median(luck.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


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
