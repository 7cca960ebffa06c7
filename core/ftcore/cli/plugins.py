"""`ftcore plugins` and `ftcore plugins why CONFIG`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.secrets import mask


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(ctx: click.Context) -> None:
    """List every plugin: name, package, version, what it serves, and why a broken one is broken."""
    if ctx.invoked_subcommand is not None:
        return
    from ftcore.plugins import discover

    rows = [("NAME", "PACKAGE", "VERSION", "STATE", "STAGES", "HOOKS")]
    reasons = []
    for record in discover().records:
        hooks = ", ".join(hook.removeprefix("ftcore_") for hook in record.hooks)
        rows.append(
            (record.name, record.distribution, record.version, record.state, ", ".join(record.stages) or "–", hooks)
        )
        if record.reason:
            reasons.append(f"{record.name} is {record.state}: {record.reason}")
    _table(rows)
    for reason in reasons:
        click.echo(mask(reason))


@plugins.command()
@config_argument
@set_option
def why(config: Path, overrides: tuple[str, ...]) -> None:
    """Say who serves each stage of the run that CONFIG describes, and why."""
    from ftcore.config import load
    from ftcore.plugins import discover
    from ftcore.selection import choices

    found = discover()
    rows = [("STAGE", "PLUGIN", "PACKAGE", "WHY")]
    for choice in choices(load(config, found, overrides), found):
        record = found.get(choice.plugin)
        package = f"{record.distribution} {record.version}" if record else "–"
        rows.append((choice.stage, choice.plugin or "–", package, choice.why))
    _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [mask(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
