"""`ftcore plugins new NAME --kind KIND`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ftcore.new_plugin.choices import KINDS, LICENSES

_KINDS = "\n".join(f"  {kind:<10} {what}" for kind, what in KINDS.items())


@click.command(epilog=f"\b\nKinds:\n{_KINDS}")
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(list(KINDS)), help="Which part of a run it serves.")
@click.option(
    "--into",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The folder for the package's files, new or not.  [default: ftcore-NAME]",
)
@click.option("--author", metavar="WHO", help="Who holds the copyright.  [default: the authors of ftcore-NAME]")
@click.option(
    "--license",
    "license_",
    type=click.Choice(list(LICENSES)),
    default="proprietary",
    show_default=True,
    help="Of the package.",
)
def new(name: str, kind: str, folder: Path | None, author: str | None, license_: str) -> None:
    """Write the package of a new plugin, complete and working: code, settings, tests, README, CI.

    NAME is the plugin's name in configurations: in [stages], as its section, in front of its ids. No file that is
    there is ever replaced.
    """
    from ftcore.new_plugin.names import chosen
    from ftcore.new_plugin.package import NewPlugin, write

    names = chosen(name)
    if author is not None and not (author.strip() and author.isprintable()):
        raise click.BadParameter("it is empty, or no single line", param_hint="--author")
    folder = Path(names.distribution) if folder is None else folder
    written = write(NewPlugin(names, kind, author or f"The authors of {names.distribution}", license_), folder)
    click.echo(f"{folder} has {KINDS[kind]}.")
    for path in written:
        click.echo(f"  {path}")
    click.echo("Next:")
    for command in (f"cd {shlex.quote(str(folder))}", "pip install -e '.[dev]'", "pytest"):
        click.echo(f"  {command}")
