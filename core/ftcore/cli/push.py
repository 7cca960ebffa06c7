"""`ftcore push RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import run_argument, set_option
from ftcore.cli.tracing import discover, trace_option


@click.command()
@run_argument
@set_option
@trace_option
def push(folder: Path, overrides: tuple[str, ...]) -> None:
    """Push the model of a RUN to the Hugging Face Hub, also where the run itself was not to do so.

    Needs HF_TOKEN. Pushing again sends only what the Hub does not have; --set hub.repo_id=NAME/REPO pushes elsewhere.
    """
    from ftcore.run import afterwards
    from ftcore.run.reopen import reopen

    run = reopen(folder, discover(), overrides, exclusively=True)
    try:
        afterwards.push(run)
    finally:
        run.active.close()
