"""`ftcore plugins why CONFIG`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.cli.table import table


@click.command()
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
    table(rows)
