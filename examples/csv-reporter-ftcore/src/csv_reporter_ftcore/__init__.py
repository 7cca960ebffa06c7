"""The plugin `csv`: a run's metrics in a file that spreadsheets and pandas read."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from ftcore import hookimpl
from ftcore.contracts import Reporter, Run
from ftcore.settings import Section

RUN = "{run}"
"""What stands in a path for the run's name."""


class CsvSettings(Section):
    """The `[csv]` section."""

    path: str | None = None
    """The file, in which `{run}` stands for the run's name; folders that are missing are made. Null writes `metrics.csv` in the run directory."""

    @field_validator("path")
    @classmethod
    def _one_file_for_each_run(cls, value: str | None) -> str | None:
        if value is not None and RUN not in value:
            raise ValueError(f"{RUN} has to stand in it for the run's name: two runs cannot share a file")
        return value


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[csv]` section."""
    return CsvSettings


@hookimpl
def ftcore_make_reporter(run: Run, settings: CsvSettings) -> Reporter:
    """The reporter; it opens nothing before it is started."""
    from csv_reporter_ftcore.reporter import CsvReporter

    if settings.path is None:
        return CsvReporter(None)
    return CsvReporter(Path(settings.path.replace(RUN, run.name)).expanduser())
