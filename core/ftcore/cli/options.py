"""Arguments that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

run_argument = click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
config_argument = click.argument("config", type=click.Path(path_type=Path))
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Replace a value of the file; repeatable."
)


class Seconds(click.FloatRange):
    """A length of time: a number that is not negative, nor `nan`, which is less than nothing and more than nothing."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number", param, ctx)
        return seconds
