"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

run_argument = click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
config_argument = click.argument("config", type=click.Path(path_type=Path))
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Replace a value of the file; repeatable."
)
