"""`ftcore check CONFIG`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import config_argument, set_option


@click.command()
@config_argument
@set_option
@click.option("--data", "with_data", is_flag=True, help="Look at the data too: load the tokenizer and every row.")
def check(config: Path, overrides: tuple[str, ...], with_data: bool) -> None:
    """Look for every mistake in the file CONFIG that can be found without loading data or a model.

    With --data, tokenizer and data are loaded as well, and audited as `ftcore run` does it before it loads the model
    (see [audit]).
    """
    from ftcore import check as checks
    from ftcore.config import load
    from ftcore.plugins import discover
    from ftcore.secrets import mask

    plugins = discover()
    settings = load(config, plugins, overrides)
    choices, warnings = checks.check(settings, plugins)
    for warning in warnings:
        click.echo(mask(warning), err=True)
    served = ", ".join(f"{choice.stage} {choice.plugin}" for choice in choices if choice.plugin)
    click.echo(f"{config} is valid: {served}")
    if not with_data:
        return
    from ftcore.audit import gate as audit
    from ftcore.run.ahead import prepare_ahead

    ahead = prepare_ahead(settings, plugins)
    found = audit.examine(ahead.prepared, ahead.tokenizer, settings)
    click.echo(f"data: {found.summary()}")
    for text in (*ahead.run.warnings, *(str(one) for one in found.warnings)):
        click.echo(f"warning: {mask(text)}", err=True)
    found.require_passed()
    click.echo("the data pass the audit" + (", with the warnings above" if found.warnings else ""))
