"""`ftcore plugins`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ftcore.cli.table import table

if TYPE_CHECKING:
    from ftcore.plugins import PluginRecord


def show(slow: float | None, as_json: bool) -> None:
    """Print every plugin, and below them why those that cannot be used cannot, and who holds up every command.

    Args:
        slow: how many seconds a plugin's import may take; None for the usual ones.
    """
    from ftcore.plugins import discover
    from ftcore.plugins.importers import SLOW
    from ftcore.secrets import mask, masked

    limit = SLOW if slow is None else slow
    records = discover().records
    if as_json:
        facts = [_facts(record, limit) for record in records]
        click.echo(json.dumps(masked(facts), indent=2, ensure_ascii=False))
        return
    table([("NAME", "PACKAGE", "VERSION", "STATE", "IMPORT", "STAGES", "HOOKS"), *map(_row, records)])
    for record in records:
        if record.reason:
            click.echo(mask(f"{record.name} is {record.state}: {record.reason}"))
        for line in record.outdated:
            click.echo(mask(f"{record.name} is outdated: {line}"))
        if text := record.slow(limit):
            click.echo(mask(f"warning: {text}"), err=True)


def _row(record: PluginRecord) -> tuple[str, ...]:
    from ftcore.text import duration

    took = duration(record.import_seconds) if record.import_seconds else "–"
    stages = ", ".join(record.stages) or "–"
    hooks = ", ".join(hook.removeprefix("ftcore_") for hook in record.hooks)
    return (record.name, record.distribution, record.version, record.state, took, stages, hooks)


def _facts(record: PluginRecord, limit: float) -> dict[str, Any]:
    return {
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "target": record.target,
        "state": record.state,
        "reason": record.reason,
        "stages": record.stages,
        "hooks": record.hooks,
        "wraps": record.wraps,
        "section": record.settings is not None,
        "import_seconds": round(record.import_seconds, 6),
        "settings_seconds": round(record.settings_seconds, 6),
        "heavy": record.heavy,
        "slow": record.slow(limit),
        "outdated": record.outdated,
    }
