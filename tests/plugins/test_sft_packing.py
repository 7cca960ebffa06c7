"""A packed example's loss is its own: with every attention that packing is allowed with, whoever its neighbours are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from sft_parts import Given, conversation, rows_of

from ftcore.contracts import Examples
from ftcore.settings.audit import AuditSettings
from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore.testing.models import tiny_model
from ftcore_sft.labels import IGNORED
from ftcore_sft.packing import pack
from ftcore_sft.settings import SftSettings
from ftcore_sft.trainer import SupervisedTrainer
from ftcore_transformers.loader import TransformersLoader

if TYPE_CHECKING:
    from conftest import TrackedRun

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")

EXAMPLE = conversation("How many apples are there?", "There are 7 apples in all.")
NEIGHBOURS = (
    conversation("Hi", "Ho"),
    conversation("And the pears?", "There are 700, and they are better than the apples.", "Why?", "They are pears."),
    EXAMPLE,
)
IMPLEMENTATIONS = {
    "torch's scaled dot product": (True, False),
    "step by step": (False, False),
    "ftcore's own on a CPU": (True, True),
}
"""By name: `use_flash_attention` and `fast_cpu`."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Weights that are large enough for a leak to show.
    return tiny_model(tmp_path_factory.mktemp("model"), initializer_range=0.2)


def attached(run: TrackedRun, folder: Path, flash: bool, fast_cpu: bool) -> Any:
    """The trainer inside ours, ready to train packed rows."""
    run.started_at = datetime.now().astimezone()
    model = ModelSettings(
        base_model_id=str(folder),
        dtype="float32",
        load_in_4bit=False,
        use_gradient_checkpointing=False,
        use_flash_attention=flash,
    )
    loader = TransformersLoader(run, str(folder), model, LoraSettings(rank=4, lora_dropout=0.0))
    trainer = SupervisedTrainer(
        run,
        TrainingSettings(optimizer="adamw_torch", epochs=1, packing=True),
        LoggingSettings(log_steps=1),
        SavingSettings(save_steps=1000),
        AuditSettings(),
        SftSettings(fast_cpu=fast_cpu),
    )
    rows = rows_of([EXAMPLE, *NEIGHBOURS])
    prepared = trainer.prepare(
        Examples(rows, None, Given(), loader.tokenizer(), DataSettings(training_data_id="d"), 256)
    )
    loaded = loader.model()
    nobody: Any = SimpleNamespace(should_stop=lambda: False)  # nothing is fitted
    trainer.attach(loaded, prepared, nobody)
    return trainer._trainer, loaded.eval(), prepared


def loss_of_first(trainer: Any, model: Any, rows: list[dict[str, list[int]]], batch: int = 1) -> float:
    """The loss of the first of the rows, packed with the others; the rest of them is not supervised."""
    from datasets import Dataset

    silent = [row if not at else {**row, "labels": [IGNORED] * len(row["labels"])} for at, row in enumerate(rows)]
    packed = pack(Dataset.from_list(silent), 256)
    assert len(packed) == 1, "they are in one sequence"
    with torch.no_grad():
        loss, count = trainer._supervised_loss(model, trainer.data_collator([packed[0]] * batch))
    assert count > 0
    return float(loss / count)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_a_loss_does_not_depend_on_the_neighbours(name: str, tiny: Path, tracked_run: TrackedRun) -> None:
    flash, fast_cpu = IMPLEMENTATIONS[name]
    trainer, model, prepared = attached(tracked_run, tiny, flash, fast_cpu)
    said = any("attention with ftcore's own" in line or "attention with" in line for line in tracked_run.said)
    assert said is fast_cpu
    example, *neighbours = ({key: row[key] for key in ("input_ids", "labels")} for row in prepared.examples)
    alone = loss_of_first(trainer, model, [example])
    for neighbour in neighbours:
        for batch in (1, 3):
            # pack() sorts by length: the neighbour stands before the example or behind it.
            assert loss_of_first(trainer, model, [example, neighbour], batch) == pytest.approx(alone, abs=1e-4)
    assert loss_of_first(trainer, model, [example, *neighbours]) == pytest.approx(alone, abs=1e-4)
    other = {**neighbours[0], "labels": neighbours[0]["labels"]}
    assert abs(loss_of_first(trainer, model, [other, example]) - alone) > 1e-3, "another example's loss is another"


def test_a_leak_would_show(tiny: Path, tracked_run: TrackedRun) -> None:
    trainer, model, prepared = attached(tracked_run, tiny, True, False)
    example, short, long, _ = ({key: row[key] for key in ("input_ids", "labels")} for row in prepared.examples)
    collate = trainer.data_collator

    def without_borders(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(rows)
        return {**batch, "position_ids": torch.arange(batch["input_ids"].shape[1])[None]}

    trainer.data_collator = without_borders
    leaking = [loss_of_first(trainer, model, [example, neighbour]) for neighbour in (short, long)]
    assert abs(leaking[0] - leaking[1]) > 1e-3
