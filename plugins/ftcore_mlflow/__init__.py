"""Reports runs to MLflow: a server, or a SQLite file beside the run directories."""

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


class MlflowSettings(Section):
    """The `[mlflow]` section."""

    tracking_uri: Annotated[str, Field(min_length=1)] | None = None
    """Where MLflow keeps the runs: a server's URL, or any other URI that MLflow knows. Null takes the variable `MLFLOW_TRACKING_URI`, and where that is not set a SQLite file `mlflow.db` in the folder that holds the run directories, with the artifacts in `mlartifacts` beside it."""

    experiment_name: Annotated[str, Field(min_length=1, max_length=500)] = "ftcore"
    """The experiment that the run belongs to. It is created if there is none, and restored if it was deleted."""

    run_name: Annotated[str, Field(min_length=1)] | None = None
    """The run's name, for every tracker and for the run directory; the same as `[run] name`. Null makes one of the time at the start."""

    run_name_prefix: str = ""
    """Stands before the name; the same as `[run] name_prefix`."""

    run_name_suffix: str = ""
    """Stands behind the name; the same as `[run] name_suffix`."""

    tags: dict[str, str] = {}
    """Tags of the run in MLflow, besides the ones that ftcore sets."""


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[mlflow]` section."""
    return MlflowSettings


@hookimpl
def ftcore_check(config: Config) -> Iterable[Problem]:
    """Whether MLflow is installed, where it is wanted."""
    if "mlflow" in config.fine_tuner.reporters() and find_spec("mlflow") is None:
        yield Problem(
            "fine_tuner.report_to",
            "report_to names mlflow, and the package mlflow is not installed",
            "Install it: pip install 'ftcore[mlflow]'",
        )


@hookimpl
def ftcore_make_reporter(run: Run, settings: MlflowSettings) -> Reporter:
    """The reporter; MLflow itself is imported when it starts."""
    from ftcore_mlflow.reporter import MlflowReporter

    return MlflowReporter(run, settings)
