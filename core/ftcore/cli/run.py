"""`ftcore run CONFIG`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.cli.tracing import discover, trace_option, wanted


@click.command()
@config_argument
@set_option
@click.option("--in", "folder", type=click.Path(path_type=Path), hidden=True, help="Go on in this run directory.")
@click.option(
    "--resume",
    "resumed",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[RUN]",
    help="Go on with a run (by default the newest of this CONFIG) from its newest complete checkpoint.",
)
@click.option(
    "--accept-changes", is_flag=True, help="With --resume: go on although settings, data or versions have changed."
)
@trace_option
def run(
    config: Path, overrides: tuple[str, ...], folder: Path | None, resumed: str | None, accept_changes: bool
) -> None:
    """Fine-tune a model as the file CONFIG says.

    Everything that can be checked is checked before the model is loaded. The run gets a directory of its own with
    the settings, the metrics, the checkpoints, a log and the trained model.

    Ctrl-C, or SIGTERM, ends the run after the current step with a checkpoint; a second one ends it at once. With
    --resume a run goes on that was interrupted, failed, or was killed.
    """
    if accept_changes and resumed is None:
        raise click.UsageError("--accept-changes goes with --resume")
    from ftcore.check import read
    from ftcore.run import pipeline, several

    plugins = discover()
    if folder is not None:  # started by a launcher, whose own process tells the user how it ended
        with several.launched(folder):
            pipeline.go_on(read(config, plugins, overrides), plugins, folder)
        return
    several.require_alone()
    command = [sys.executable, "-m", "ftcore", "run", str(config)]
    command += [part for override in overrides for part in ("--set", override)] + ["--trace"] * wanted()
    settings = read(config, plugins, overrides)
    if resumed is None:
        active = pipeline.run(settings, plugins, command)
    else:
        active = pipeline.resume(settings, plugins, resumed, command, accept_changes=accept_changes)
    click.echo(f"\nEverything lies in {active.dir}:")
    for name, what in _CONTENTS.items():
        if (active.dir / name).exists():
            click.echo(f"  {name:<14} {what}")
    click.echo("Next:")
    if (active.dir / "model").exists():
        click.echo(f'  ftcore ask {shlex.quote(str(active.dir))} "a question"    talk to it')
    click.echo(f"  ftcore run {shlex.quote(str(config))} --set run.name=…    train again, with other settings")


_CONTENTS = {
    "model": "the trained model or adapter, its tokenizer and model card",
    "merged": "the model with the adapter in its weights",
    "metrics.jsonl": "every logged step",
    "config.toml": "all settings in force",
    "manifest.json": "versions, hardware, data, results",
    "run.log": "what the run said, with times",
    "trace.jsonl": "every call to a plugin, with the time it took",
    "checkpoints": "checkpoints on the way",
}
