"""`ftcore preview CONFIG`."""

from __future__ import annotations

from pathlib import Path

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.cli.tracing import discover, trace_option

_ROWS = 3


@click.command()
@config_argument
@set_option
@click.option("--rows", "first", type=click.IntRange(0), metavar="N", help=f"Show the first N rows ({_ROWS}).")
@click.option(
    "--row", "numbers", type=click.IntRange(0), multiple=True, metavar="NUMBER", help="Show a row, the first is 0."
)
@click.option("--validation", is_flag=True, help="Show rows of the validation data.")
@click.option("--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write the rows into a web page.")
@trace_option
def preview(
    config: Path,
    overrides: tuple[str, ...],
    first: int | None,
    numbers: tuple[int, ...],
    validation: bool,
    page: Path | None,
) -> None:
    """Show what training as CONFIG says would learn: rows token by token, and statistics of all data.

    The model is not loaded. Colours, or marks where there is no terminal, tell which tokens are learned, only read, or
    cut off.
    """
    from rich.console import Console

    from ftcore.check import read
    from ftcore.preview import html, terminal
    from ftcore.preview.gather import gather
    from ftcore.secrets import mask

    plugins = discover()
    if first is None:
        first = 0 if numbers else _ROWS
    found = gather(read(config, plugins, overrides), plugins, first, numbers, validation)
    for warning in found.warnings:
        click.echo(f"warning: {mask(warning)}", err=True)
    if page is not None:
        html.write(found, page)
    terminal.show(found, Console(), rows=page is None)
    if page is not None:
        click.echo(f"The rows are in {page}: open it in a browser.")
