"""`ftcore plugins` and its commands."""

from __future__ import annotations

import click

from ftcore.cli.plugins.list import show
from ftcore.cli.plugins.new import new
from ftcore.cli.plugins.why import why


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(ctx: click.Context) -> None:
    """List every plugin: name, package, version, what it serves, and why a broken one is broken."""
    if ctx.invoked_subcommand is None:
        show()


plugins.add_command(new)
plugins.add_command(why)
