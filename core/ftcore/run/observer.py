"""Passes a trainer's progress on to the console, the log and the reporters."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from ftcore.checkpoints import sync
from ftcore.reporting.fan_out import Reporting, Silence
from ftcore.run.runs import ActiveRun


class RunObserver:
    """Implements `ftcore.contracts.Observer`: passes a trainer's progress to the console and the reporters."""

    def __init__(self, active: ActiveRun, reporting: Reporting | Silence, stop: threading.Event) -> None:
        self._active, self._reporting, self._stop = active, reporting, stop
        self._total = 0
        self._evaluated_at = active.last_evaluation

    def begin(self, total_steps: int, from_step: int) -> None:
        self._total = total_steps
        self._active.say(f"training   {total_steps - from_step:,} steps")
        self._active.console.begin(total_steps, from_step)

    def step(self, step: int, tokens: int) -> None:
        self._active.console.step(step, tokens)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "eval_loss" in metrics:
            if step == self._evaluated_at:
                return  # a trainer may log its evaluations itself; the pipeline then logs them a second time
            self._evaluated_at = step
        self._reporting.log(step, metrics)
        if "loss" in metrics:
            self._active.console.loss(step, self._total, metrics["loss"])
        elif "eval_loss" in metrics and 0 < step < self._total:
            self._active.say(f"  step {step}/{self._total}  {shown(metrics)}")
        self._active.note(f"step {step} {dict(metrics)}")

    def checkpoint(self, step: int, folder: Path) -> None:
        metrics = self._active.dir / "metrics.jsonl"
        if metrics.exists():
            sync(metrics)  # a run that goes on from this checkpoint also has the metrics up to it
        self._active.note(f"checkpoint of step {step} in {folder}")

    def should_stop(self) -> bool:
        return self._stop.is_set()


def shown(metrics: Mapping[str, float]) -> str:
    """The metrics worth a line: the evaluation loss where there is one."""
    names = ("eval_loss",) if "eval_loss" in metrics else tuple(metrics)
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in names)
