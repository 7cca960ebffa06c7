"""A table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ftcore.secrets import mask


def table(rows: Sequence[tuple[str, ...]], *, err: bool = False) -> None:
    """Print rows, the first of which is the heading, with columns as wide as their contents; with `err` to standard error."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [mask(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip(), err=err)
