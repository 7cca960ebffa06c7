"""The trainer on a tiny real model: it learns, it stops when asked, and a resumed run ends where a whole one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from acme_ftcore.conversation import TicketFormatter
from acme_ftcore.trainer import AcmeTrainer
from ftcore.contracts import Examples
from ftcore.errors import DataError, TrainingError
from ftcore.settings.audit import AuditSettings
from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings

TRAINING = TrainingSettings(
    epochs=3, learning_rate=0.01, warmup_steps=2, device_train_batch_size=2, grad_accumulation=2, weight_decay=0.0
)
TICKETS = [
    {"product": "anvil", "subject": f"Anvil {number}", "body": "How heavy?", "reply": f"{number} kilograms."}
    for number in range(10)
]


@dataclass
class Listener:
    """As much of `Run` and `Observer` as the trainer uses; asks for a stop after a step."""

    dir: Path
    stop_after: int = 1000
    losses: dict[int, float] = field(default_factory=dict)
    saved: list[Path] = field(default_factory=list)
    last: int = 0

    def say(self, text: str) -> None: ...

    def begin(self, total_steps: int, from_step: int) -> None:
        self.last = from_step

    def step(self, step: int, tokens: int) -> None:
        assert (step, tokens > 0) == (self.last + 1, True)
        self.last = step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.losses[step] = metrics["loss"]

    def checkpoint(self, step: int, folder: Path) -> None:
        self.saved.append(folder)

    def should_stop(self) -> bool:
        return self.last >= self.stop_after


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ftcore.testing.models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model"))


def ready(folder: Path, listener: Any, rows: Any = TICKETS, **saving: Any) -> AcmeTrainer:
    """A trainer with a fresh model attached."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer = AcmeTrainer(
        listener, TRAINING, LoggingSettings(log_steps=1), SavingSettings(**saving), AuditSettings(max_bad_rows=0.1)
    )
    data = Dataset.from_list(rows)
    settings = DataSettings(training_data_id="acme:tickets")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prepared = trainer.prepare(Examples(data, data.select([0, 1]), TicketFormatter(), tokenizer, settings, 512))
    trainer.attach(AutoModelForCausalLM.from_pretrained(folder), prepared, listener)
    return trainer


def test_it_learns_and_says_so(folder: Path, tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    trainer = ready(folder, listener, save_steps=4, save_total_limit=1)
    before = trainer.evaluate()["eval_loss"]
    result = trainer.fit(None)
    assert (result.steps, result.epochs, result.status) == (9, 3.0, "finished")
    assert trainer.evaluate()["eval_loss"] < before - 1
    assert list(listener.losses) == list(range(1, 10))
    assert [path.name for path in listener.saved] == ["checkpoint-4", "checkpoint-8", "checkpoint-9"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-9"]
    (answer,) = trainer.generate([TicketFormatter()(TICKETS[0])[:-1]], max_new_tokens=5)
    assert isinstance(answer, str)


def test_a_resumed_run_ends_where_a_whole_one_does(folder: Path, tmp_path: Path) -> None:
    whole, first, second = (Listener(tmp_path / name) for name in ("whole", "first", "second"))
    ready(folder, whole, save_steps=4).fit(None)
    first.stop_after = 4
    assert ready(folder, first, save_steps=4).fit(None).status == "interrupted"
    resumed = ready(folder, second, save_steps=4).fit(first.saved[-1])
    assert (resumed.status, list(second.losses)) == ("finished", [5, 6, 7, 8, 9])
    assert {**first.losses, **second.losses} == pytest.approx(whole.losses, rel=1e-4)


def test_a_checkpoint_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(TrainingError, match="checkpoint-1"):
        ready(folder, Listener(tmp_path)).fit(tmp_path / "checkpoint-1")


def test_bad_rows_are_left_out_until_there_are_too_many(folder: Path, tmp_path: Path) -> None:
    empty = {**TICKETS[0], "reply": ""}
    trainer = ready(folder, Listener(tmp_path), [*TICKETS, empty])
    assert trainer.fit(None).steps == 9  # ten good rows, as without the empty one
    with pytest.raises(DataError, match="2 of 12 rows cannot be formatted: row 10: reply is empty"):
        ready(folder, Listener(tmp_path), [*TICKETS, empty, empty])
