"""The statistics of what the trainer prepared, compared with what its batches then are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sft_parts import STYLES, Given, conversation, rows_of

from ftcore.contracts import Examples
from ftcore.settings.audit import AuditSettings
from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore.statistics import statistics
from ftcore.testing.models import tiny_model
from ftcore_sft.settings import SftSettings
from ftcore_sft.trainer import SupervisedTrainer

if TYPE_CHECKING:
    from conftest import TrackedRun

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

CONVERSATIONS = [conversation("q" * (3 * number % 47), "a" * (7 * number % 31 + 1)) for number in range(45)]
LIMIT = 96


class Silent:
    """An observer that nobody asked anything."""

    def begin(self, total_steps: int, from_step: int) -> None: ...
    def step(self, step: int, tokens: int) -> None: ...
    def log(self, step: int, metrics: Any) -> None: ...
    def checkpoint(self, step: int, folder: Path) -> None: ...
    def should_stop(self) -> bool:
        return False


@pytest.mark.parametrize("packing", [False, True])
def test_padding_and_steps_are_those_of_the_training(tracked_run: TrackedRun, tmp_path: Path, packing: bool) -> None:
    from transformers import AutoModelForCausalLM

    training = TrainingSettings(
        epochs=2, device_train_batch_size=4, grad_accumulation=3, optimizer="adamw_torch", packing=packing
    )
    settings = SftSettings(fast_cpu=False)  # which would need no padding
    trainer = SupervisedTrainer(
        tracked_run, training, LoggingSettings(), SavingSettings(save_steps=1000), AuditSettings(), settings
    )
    data = DataSettings(training_data_id="d")
    examples = Examples(rows_of(CONVERSATIONS), None, Given(), STYLES["chatml"].tokenizer, data, LIMIT)
    prepared = trainer.prepare(examples)

    class Settings:
        max_sequence_length = LIMIT
        device_train_batch_size = training.device_train_batch_size
        grad_accumulation = training.grad_accumulation
        epochs = training.epochs

    found = statistics(prepared, STYLES["chatml"].tokenizer, Settings())
    assert found.training.rows == 45
    assert (found.packed_rows is not None) == packing

    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "model"))
    trainer.attach(model, prepared, Silent())
    batches = list(trainer._trainer.get_train_dataloader())
    size = sum(batch["input_ids"].numel() for batch in batches)
    if not packing:
        held = sum(int(batch["attention_mask"].sum()) for batch in batches)
        assert held == found.training.tokens
        assert found.padding == pytest.approx(1 - held / size)
    else:  # the trainer's own order is as random as the one that is counted
        assert found.packing_efficiency == pytest.approx(found.training.tokens / (len(prepared.train) * LIMIT))
        assert found.padding == pytest.approx(1 - found.training.tokens / size, abs=0.05)
    assert -(-len(batches) // 3) == found.steps_per_epoch
    assert trainer.fit(None).steps == found.steps
