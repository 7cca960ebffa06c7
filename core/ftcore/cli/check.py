"""`ftcore check CONFIG`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import config_argument, set_option


@click.command()
@config_argument
@set_option
def check(config: Path, overrides: tuple[str, ...]) -> None:
    """Look for every mistake in the file CONFIG that can be found without loading data or a model."""
    from ftcore import check as checks
    from ftcore.config import load
    from ftcore.plugins import discover
    from ftcore.secrets import mask

    plugins = discover()
    choices, warnings = checks.check(load(config, plugins, overrides), plugins)
    for warning in warnings:
        click.echo(mask(warning), err=True)
    served = ", ".join(f"{choice.stage} {choice.plugin}" for choice in choices if choice.plugin)
    click.echo(f"{config} is valid: {served}")
