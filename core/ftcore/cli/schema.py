"""`ftcore schema`."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, the sections of the installed plugins included."""
    from ftcore.plugins import discover
    from ftcore.schema import config_schema

    click.echo(json.dumps(config_schema(discover()), indent=2, ensure_ascii=False))
