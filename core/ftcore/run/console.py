"""What a person sees while a run goes on: lines, warnings, and a progress bar."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Console:
    """Lines on standard output, warnings on standard error, a bar where there is a terminal.

    Args:
        silent: show nothing, for the processes of a job that are not the main one.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._pace = Pace()

    def say(self, text: str) -> None:
        """A line of the run's story."""
        if self._silent:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """A line that wants attention."""
        if self._silent:
            return
        if self._bar is not None:
            self._bar.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def begin(self, total_steps: int, from_step: int) -> None:
        """Show the bar."""
        self._pace = Pace()
        if self._silent or not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[speed]} tokens/s"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("training", total=total_steps, completed=from_step, loss="–", speed="–")
        self._bar.start()

    def step(self, step: int, tokens: int) -> None:
        """Move the bar."""
        self._pace.add(tokens)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, speed=f"{self._pace.tokens_per_second:,.0f}")

    def loss(self, step: int, total_steps: int, loss: float) -> None:
        """Show a new training loss."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, loss=f"{loss:.4f}")
        else:
            left = self._pace.seconds_for(total_steps - step)
            self.say(
                f"  step {step}/{total_steps}  loss {loss:.4f}  {self._pace.tokens_per_second:,.0f} tokens/s"
                f"  ETA {clock(left)}"
            )

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


class Pace:
    """Tokens per second and time to go, the first step left out: it pays for compilation and warm caches."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._steps = self._tokens = 0

    def add(self, tokens: int) -> None:
        """A step ended."""
        if self._started is None:
            self._started = time.perf_counter()
            return
        self._steps += 1
        self._tokens += tokens

    @property
    def tokens_per_second(self) -> float:
        """Since the first step; 0 while there is nothing to tell."""
        return self._tokens / self._elapsed if self._tokens else 0.0

    def seconds_for(self, steps: int) -> float:
        """How long so many steps will take at this pace."""
        return steps * self._elapsed / self._steps if self._steps else 0.0

    @property
    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._started, 1e-9) if self._started is not None else 1e-9


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
