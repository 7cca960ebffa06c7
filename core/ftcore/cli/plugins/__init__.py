"""`ftcore plugins` and its commands."""

from __future__ import annotations

import click

from ftcore.cli.options import Seconds
from ftcore.cli.plugins.list import show
from ftcore.cli.plugins.new import new
from ftcore.cli.plugins.why import why


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--slow", type=Seconds(), metavar="SECONDS", help="Warn of longer imports.  [default: 0.2]")
@click.pass_context
def plugins(ctx: click.Context, slow: float | None, as_json: bool) -> None:
    """List every plugin: name, package, version, how long its import took, what it serves, and why a broken one is broken."""
    if ctx.invoked_subcommand is None:
        show(slow, as_json)
    elif as_json or slow is not None:
        raise click.UsageError(f"--json and --slow are of the list, and of no use in front of {ctx.invoked_subcommand}")


plugins.add_command(new)
plugins.add_command(why)
