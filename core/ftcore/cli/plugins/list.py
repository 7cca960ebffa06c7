"""`ftcore plugins`."""

from __future__ import annotations

import click

from ftcore.cli.table import table
from ftcore.secrets import mask


def show() -> None:
    """Print every plugin, and below them why those that cannot be used cannot."""
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
        reasons += [f"{record.name} is outdated: {line}" for line in record.outdated]
    table(rows)
    for reason in reasons:
        click.echo(mask(reason))
