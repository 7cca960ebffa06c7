"""`ftcore report RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import Seconds, run_argument, set_option
from ftcore.cli.tracing import discover, trace_option


@click.command()
@run_argument
@click.option("--to", "names", multiple=True, metavar="NAME", help="The tracker; by default those of the run.")
@click.option("--timeout", default=300.0, show_default=True, type=Seconds(), help="Seconds it may take.")
@set_option
@trace_option
def report(folder: Path, names: tuple[str, ...], timeout: float, overrides: tuple[str, ...]) -> None:
    """Send the trackers what they have not got of a RUN, in order, each record once.

    The trackers are those of the run; --to names others, which then get everything. What a tracker has is not sent again.
    """
    from ftcore.errors import ConfigError
    from ftcore.reporting.replay import replay
    from ftcore.run.reopen import reopen, require_secrets

    plugins = discover()
    run = reopen(folder, plugins, overrides)
    try:
        chosen = list(dict.fromkeys(names)) or run.stages.names("reporter")
        if not chosen:
            raise ConfigError(f"the run {run.active.name} has no tracker", fix="Name one: --to mlflow")
        for name in chosen:
            plugins.require("reporter", name, "--to")
        require_secrets(run.config, chosen)
        makers = run.stages.reporters(run.active, chosen)
        replay(folder, makers, run.active.say, run.active.warn, timeout)
    finally:
        run.active.close()
