"""Writes a run's metrics as TensorBoard event files."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ftcore import hookimpl
from ftcore.contracts import Reporter, Run
from ftcore.errors import Problem
from ftcore.settings.base import Section

if TYPE_CHECKING:
    from ftcore.config import Config


class TensorboardSettings(Section):
    """The `[tensorboard]` section."""

    log_dir: Annotated[str, Field(min_length=1)] | None = None
    """The folder for event files of all runs; each run gets a folder of its name in it. Null puts them into the run directory, as `tensorboard`."""


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[tensorboard]` section."""
    return TensorboardSettings


@hookimpl
def ftcore_check(config: Config) -> Iterable[Problem]:
    """Whether TensorBoard is installed, where it is wanted."""
    if "tensorboard" in config.fine_tuner.reporters() and find_spec("tensorboard") is None:
        yield Problem(
            "fine_tuner.report_to",
            "report_to names tensorboard, and the package tensorboard is not installed",
            "Install it: pip install 'ftcore[tensorboard]'",
        )


@hookimpl
def ftcore_make_reporter(run: Run, settings: TensorboardSettings) -> Reporter:
    """The reporter; TensorBoard itself is imported when it starts."""
    from ftcore_tensorboard.reporter import TensorboardReporter

    return TensorboardReporter(run, settings)
