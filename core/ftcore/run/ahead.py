"""The data of a run as it would train on them, without the run: no run directory, no model, nobody told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ftcore.config import Config
from ftcore.contracts import Examples, Formatter, Prepared
from ftcore.plugins import Plugins, importers, selection
from ftcore.quiet import quiet_libraries
from ftcore.run.imports import quick_imports
from ftcore.run.stages import Stages
from ftcore.settings.data import DataSettings


class NoRun:
    """A run that will not happen; implements `ftcore.contracts.Run`. What it is told is kept."""

    name = "none"
    dir = Path()
    resumed = False
    settings: Mapping[str, Any] = {}

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.started_at = datetime.now().astimezone()
        self.said: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def imported_by(self, module: str) -> str | None:
        return importers.imported_by(module)


@dataclass(frozen=True)
class Ahead:
    """The parts of a run up to its prepared data.

    Attributes:
        stages: the chosen plugins.
        run: what they told, warnings among it.
        tokenizer: with its chat template.
        train, validation: the rows as they were loaded.
        formatter: row to conversation.
        prepared: what would be trained on; bad rows are left out, however many there are.
    """

    config: Config
    stages: Stages
    run: NoRun
    tokenizer: Any
    train: Any
    validation: Any
    formatter: Formatter
    prepared: Prepared

    def again(self, rows: Any, max_length: int) -> Prepared:
        """Some other rows as a trainer prepares them for training, cut at another length."""
        quiet = NoRun(self.config.fine_tuner.seed)
        return _prepare(self.config, self.stages, quiet, self.tokenizer, self.formatter, rows, None, max_length)


def prepare_ahead(config: Config, plugins: Plugins) -> Ahead:
    """Load and prepare the data of a configuration, whatever `[audit]` says of bad rows.

    Raises:
        FtcoreError: the tokenizer or the data cannot be loaded, or the trainer cannot prepare them.
    """
    lenient = config.audit.model_copy(update={"bad_rows": "skip", "max_bad_rows": 1.0})
    config = replace(config, audit=lenient)
    run = NoRun(config.fine_tuner.seed)
    stages = Stages(config, plugins, selection.choices(config, plugins))
    quiet_libraries()
    with quick_imports():
        tokenizer = stages.loader(run).tokenizer()
    quiet_libraries()  # now that the loader has imported them
    train, validation = stages.datasets(run)
    formatter = stages.formatter(run, train)
    limit = config.fine_tuner.max_sequence_length
    prepared = _prepare(config, stages, run, tokenizer, formatter, train, validation, limit)
    return Ahead(config, stages, run, tokenizer, train, validation, formatter, prepared)


def _prepare(
    config: Config,
    stages: Stages,
    run: NoRun,
    tokenizer: Any,
    formatter: Formatter,
    train: Any,
    validation: Any,
    max_length: int,
) -> Prepared:
    examples = Examples(
        train=train,
        validation=validation,
        formatter=formatter,
        tokenizer=tokenizer,
        settings=config.fine_tuner.view(DataSettings),
        max_length=max_length,
    )
    return stages.trainer(run).prepare(examples)
