"""A trainer at work on the tiny model and a few rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ftcore.contracts import Examples, Prepared
from ftcore.settings.data import DataSettings
from ftcore.testing.conformance.subject import Scene, Subject, as_raised
from ftcore.testing.conformance.weights import loaded, unsettle

LENGTH = 96
"""The longest example, in tokens; one of the rows is longer."""

_ROWS = [
    {"question": f"How many are {number} and 1?", "answer": f"There are {number + 1}. " * (1 + number % 3)}
    for number in range(1, 8)
] + [{"question": "Tell me everything.", "answer": "There are apples, and there are pears. " * 12}]


@dataclass
class Told:
    """Implements `ftcore.contracts.Observer`: it keeps what it is told.

    Attributes:
        stop_after: ask for a stop from this step on.
    """

    stop_after: int | None = None
    begun: list[tuple[int, int]] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    checkpoints: list[tuple[int, Path]] = field(default_factory=list)

    def begin(self, total_steps: int, from_step: int) -> None:
        self.begun.append((total_steps, from_step))

    def step(self, step: int, tokens: int) -> None:
        self.steps.append((step, tokens))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((step, dict(metrics)))

    def checkpoint(self, step: int, folder: Path) -> None:
        self.checkpoints.append((step, folder))

    def should_stop(self) -> bool:
        return self.stop_after is not None and bool(self.steps) and self.steps[-1][0] >= self.stop_after


@dataclass
class Fitting:
    """A trainer with a model and data, ready to be attached.

    Attributes:
        trainer: the plugin's.
        examples: what it prepares.
        observer: what it tells.
    """

    scene: Scene
    trainer: Any
    examples: Examples
    model: Any
    observer: Told = field(default_factory=Told)

    @cached_property
    def prepared(self) -> Prepared:
        unsettle()
        with as_raised():
            prepared: Prepared = self.trainer.prepare(self.examples)
        return prepared

    def attach(self) -> None:
        """Prepare, and give the trainer the model."""
        with as_raised():
            self.trainer.attach(self.model, self.prepared, self.observer)


def fitting(
    subject: Subject,
    fine_tuner: Mapping[str, Any] | None = None,
    *,
    scene: Scene | None = None,
    validation: bool = True,
    bad_row: bool = False,
) -> Fitting:
    """A new trainer and a new model.

    Args:
        fine_tuner: keys that have other values than a tiny run's.
        scene: the run to go on in; by default a new one.
        validation: whether there are validation data: the training rows.
        bad_row: whether the formatter refuses one of the rows.
    """
    from datasets import Dataset

    given = {"max_sequence_length": LENGTH, "base_model_id": str(subject.model), **(fine_tuner or {})}
    scene = scene or subject.scene("trainer", {"fine_tuner": given, "audit": {"max_bad_rows": 1.0}})
    rows = Dataset.from_list([*_ROWS, {"question": "", "answer": "A bad row."}] if bad_row else _ROWS)
    tokenizer, model = loaded(scene)
    settings = scene.config.fine_tuner
    examples = Examples(
        train=rows,
        validation=rows if validation else None,
        formatter=scene.stages.formatter(scene.run, rows),
        tokenizer=tokenizer,
        settings=settings.view(DataSettings),
        max_length=settings.max_sequence_length,
        samples=2,
    )
    return Fitting(scene, scene.stages.trainer(scene.run), examples, model)
