"""`ftcore schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--install",
    "config",
    is_flag=False,
    flag_value=Path("config.toml"),
    default=None,
    type=click.Path(path_type=Path),
    metavar="[CONFIG]",
    help="Write it beside CONFIG (config.toml) and name it there, for editors with taplo or Even Better TOML.",
)
@click.option("--print", "printed", is_flag=True, help="Print it; so it does without --install too.")
def schema(config: Path | None, printed: bool) -> None:
    """Print the JSON Schema of the configuration, the sections of the installed plugins included."""
    from ftcore import editor
    from ftcore.plugins import discover
    from ftcore.schema import config_schema

    made = config_schema(discover())
    if config is not None:
        for line in editor.install(config, made):
            click.echo(line, err=printed)
    if config is None or printed:
        click.echo(json.dumps(made, indent=2, ensure_ascii=False))
