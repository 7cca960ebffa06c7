"""What is measured in a training process: the time of steps after the warm-up, and peak memory."""

from __future__ import annotations

import resource
import time
from typing import Any


def synchronize() -> None:
    """Wait for the device: kernels run behind the processor's back."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def limit_memory(gigabytes: int) -> dict[str, float]:
    """Let torch have no more than a card of this size has left beside CUDA's own context. Returns both, in GiB."""
    import torch

    if not torch.cuda.is_available():
        return {}
    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    allowed = gigabytes * 1024**3 - context
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    return {"context_gib": context / 1024**3, "allowed_gib": allowed / 1024**3}


def memory() -> dict[str, float]:
    """Peak memory in GiB: of tensors and as reserved on a GPU, of the process elsewhere."""
    import torch

    if torch.cuda.is_available():
        found = {"allocated_gib": torch.cuda.max_memory_allocated(), "reserved_gib": torch.cuda.max_memory_reserved()}
        return {name: value / 1024**3 for name, value in found.items()}
    return {"process_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}


def stopwatch(warm_up: int) -> Any:
    """A TrainerCallback with `result()`: how many steps were timed, in how many seconds, of how many in all."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.begun = self.ended = 0.0
            self.steps = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            synchronize()
            now = time.perf_counter()
            self.steps, self.ended = state.global_step, now
            if state.global_step == warm_up:
                self.begun = now

        def result(self) -> dict[str, float]:
            return {
                "steps": self.steps,
                "timed_steps": self.steps - warm_up,
                "seconds": self.ended - self.begun,
            }

    return Stopwatch()


def matrix_rate(size: int = 8_192, rounds: int = 30) -> float:
    """The best rate, in operations per second, at which this device multiplies two bfloat16 matrices."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        size, rounds = 512, 3
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        synchronize()
        begun = time.perf_counter()
        for _ in range(10):
            left @ right
        synchronize()
        best = min(best, (time.perf_counter() - begun) / 10)
    return 2.0 * size**3 / best
