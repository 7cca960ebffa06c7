"""`ftcore finish RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import Seconds, run_argument, set_option
from ftcore.cli.tracing import discover, trace_option


@click.command()
@run_argument
@click.option("--timeout", default=300.0, show_default=True, type=Seconds(), help="Seconds for trackers.")
@set_option
@trace_option
def finish(folder: Path, timeout: float, overrides: tuple[str, ...]) -> None:
    """Do what is left of a RUN whose training is over: save, merge, push, report.

    What is done is not done again, so this can be repeated until everything is.
    """
    from ftcore.run import afterwards
    from ftcore.run.reopen import reopen

    run = reopen(folder, discover(), overrides, exclusively=True)
    try:
        afterwards.finish(run, timeout)
    finally:
        run.active.close()
