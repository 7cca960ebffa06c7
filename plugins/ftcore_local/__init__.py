"""Runs the job in this process, or in several on this machine, and saves the model in the run directory."""

from __future__ import annotations

from ftcore import hookimpl
from ftcore.contracts import Job, Run, Saved, Trained
from ftcore_local.settings import LocalSettings


@hookimpl
def ftcore_settings() -> type[LocalSettings]:
    """The section `[local]`."""
    return LocalSettings


@hookimpl
def ftcore_launch(run: Run, job: Job, settings: LocalSettings) -> None:
    """Train here and now, or start the processes that train together."""
    if settings.processes == 1:
        job.run_here()
        return
    from ftcore.processes import run_together

    run.say(f"launcher   {settings.processes} processes on this machine")
    run_together(run, job.command, settings.processes)


@hookimpl
def ftcore_save(run: Run, trained: Trained) -> Saved:
    """Write the model, its tokenizer and its card to `<run>/model`."""
    folder = trained.export(run.dir / "model")
    return Saved("LoRA adapter" if trained.kind == "adapter" else "model", str(folder))
