"""Runs the job in this process, and saves the model in the run directory."""

from __future__ import annotations

from ftcore import hookimpl
from ftcore.contracts import Job, Run, Saved, Trained


@hookimpl
def ftcore_launch(job: Job) -> None:
    """Train here and now."""
    job.run_here()


@hookimpl
def ftcore_save(run: Run, trained: Trained) -> Saved:
    """Write the model, its tokenizer and its card to `<run>/model`."""
    folder = trained.export(run.dir / "model")
    return Saved("LoRA adapter" if trained.kind == "adapter" else "model", str(folder))
