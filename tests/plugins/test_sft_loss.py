"""The loss: equal to the model's own, blind to neighbours in a packed row, to batch sizes and to accumulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sft_parts import Given, conversation, rows_of

from ftcore.contracts import Examples
from ftcore.errors import TrainingError
from ftcore.settings.audit import AuditSettings
from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore.testing.models import tiny_model
from ftcore_sft.collate import Collator
from ftcore_sft.isolation import needs_one_row
from ftcore_sft.labels import IGNORED
from ftcore_sft.loss import SupervisedLoss
from ftcore_sft.settings import SftSettings
from ftcore_sft.trainer import SupervisedTrainer
from ftcore_transformers.loader import TransformersLoader

if TYPE_CHECKING:
    from conftest import TrackedRun

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")

LOGGED = LoggingSettings(log_steps=1)
TOPICS = ("apples", "pears", "a much longer story about quinces", "figs")
CONVERSATIONS = [
    conversation(f"How many {TOPICS[number % 4]} are {number}?", f"{number} {TOPICS[(number + 1) % 4]}" * (number % 5))
    for number in range(1, 17)
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), initializer_range=0.2)


def model_of(folder: Path, attention: str = "sdpa", **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder), attn_implementation=attention, **options)


def a_batch(lengths: tuple[int, ...] = (9, 30, 17), vocabulary: int = 300) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length in lengths:
        ids = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [IGNORED] * (length // 2) + ids[length // 2 :]})
    return Collator(0)(rows)


class Watcher:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.evaluations: list[float] = []
        self.tokens: list[int] = []
        self.total = 0

    def begin(self, total_steps: int, from_step: int) -> None:
        self.total = total_steps

    def step(self, step: int, tokens: int) -> None:
        self.tokens.append(tokens)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self.losses.append(metrics["loss"])
        if "eval_loss" in metrics:
            self.evaluations.append(metrics["eval_loss"])

    def checkpoint(self, step: int, folder: Path) -> None:
        assert folder.is_dir()

    def should_stop(self) -> bool:
        return False


def trainer_of(
    run: TrackedRun, folder: Path, watcher: Watcher, *, sft: SftSettings | None = None, **training: Any
) -> tuple[SupervisedTrainer, Any]:
    """A trainer attached to a tiny model with an adapter, and the model."""
    run.started_at = datetime.now().astimezone()
    model = ModelSettings(
        base_model_id=str(folder), dtype="float32", load_in_4bit=False, use_gradient_checkpointing=False
    )
    loader = TransformersLoader(run, str(folder), model, LoraSettings(rank=4, lora_dropout=0.0))
    values = {"optimizer": "adamw_torch", "epochs": 1, "warmup_steps": 0, "learning_rate": 0.01} | training
    settings = TrainingSettings(**values)
    trainer = SupervisedTrainer(
        run, settings, LOGGED, SavingSettings(save_steps=1000), AuditSettings(), sft or SftSettings()
    )
    rows = rows_of(CONVERSATIONS)
    prepared = trainer.prepare(
        Examples(rows, rows, Given(), loader.tokenizer(), DataSettings(training_data_id="d"), 256)
    )
    loaded = loader.model()
    trainer.attach(loaded, prepared, watcher)
    return trainer, loaded


@pytest.mark.parametrize("packed", [False, True])
def test_the_short_way_is_the_models_own_loss(tiny: Path, packed: bool) -> None:
    model, batch = model_of(tiny), a_batch()
    if packed:
        del batch["attention_mask"]
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1]).repeat(3, 1) % 11
    supervised = SupervisedLoss(model, a_batch((12,)))
    loss, count = supervised(model, batch)
    assert supervised.short
    assert count == (batch["labels"][:, 1:] != IGNORED).sum()
    assert (loss / count).item() == pytest.approx(model(**batch, use_cache=False).loss.item(), rel=1e-5)


def test_the_short_way_has_the_models_own_gradients(tiny: Path) -> None:
    one, other = model_of(tiny), model_of(tiny)
    supervised = SupervisedLoss(one, a_batch((12,)))
    loss, count = supervised(one, a_batch())
    (loss / count).backward()
    other(**a_batch(), use_cache=False).loss.backward()
    for (name, mine), own in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, own.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("kind", "scaled"),
    [
        ("gemma2", {"final_logit_softcapping": 1.0}),
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.0625}),
    ],
)
def test_a_model_that_changes_its_logits_keeps_its_own_loss(
    kind: str, scaled: dict[str, float], tmp_path: Path
) -> None:
    model = model_of(tiny_model(tmp_path / kind, kind, initializer_range=0.3, **scaled), "eager").eval()
    supervised = SupervisedLoss(model, a_batch((12,)))
    loss, count = supervised(model, a_batch())
    assert not supervised.short
    assert (loss / count).item() == pytest.approx(model(**a_batch(), use_cache=False).loss.item(), rel=1e-5)


def test_the_loss_leaves_the_training_mode_as_it_was(tiny: Path) -> None:
    for training in (True, False):
        model = model_of(tiny).train(training)
        SupervisedLoss(model, a_batch((12,)))
        assert model.training is training


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_example_does_not_see_its_neighbours(tiny: Path, attention: str) -> None:
    model = model_of(tiny, attention).eval()
    supervised = SupervisedLoss(model, a_batch((12,)))
    generator = torch.Generator().manual_seed(2)
    example, one, other = torch.randint(3, 300, (3, 20), generator=generator).tolist()

    def loss_behind(neighbour: list[int]) -> float:
        row = {
            "input_ids": [*neighbour, *example],
            "labels": [IGNORED] * (len(neighbour) + 1) + example[1:],
            "position_ids": [*range(len(neighbour)), *range(len(example))],
        }
        with torch.no_grad():
            loss, count = supervised(model, Collator(0)([row, row]))
        return float(loss / count)

    assert loss_behind(one) == pytest.approx(loss_behind(other), abs=1e-4)
    assert loss_behind(one) == pytest.approx(loss_behind([]), abs=1e-4)
    assert needs_one_row(model, 300) is False


def test_kernels_that_look_at_positions_in_one_row_only_get_one_row(tiny: Path) -> None:
    # As flash-attn and unsloth do: in a batch of several rows, what is not masked is attended to.
    model = model_of(tiny, "sdpa")
    decoder = model.get_decoder().forward

    def forward(input_ids: Any, position_ids: Any, use_cache: bool) -> Any:
        mask = torch.ones_like(input_ids) if len(input_ids) > 1 else None
        return decoder(input_ids=input_ids, position_ids=position_ids, attention_mask=mask, use_cache=use_cache)

    model.get_decoder().forward = forward
    assert needs_one_row(model, 300) is True


def test_a_model_that_remembers_its_neighbours_cannot_be_packed(tmp_path: Path) -> None:
    # A state-space model carries its state on, whatever the positions say.
    folder = tiny_model(tmp_path / "mamba", "mamba", state_size=4, initializer_range=0.3)
    with pytest.raises(TrainingError, match="packing cannot be used with this model") as refused:
        needs_one_row(model_of(folder, "eager"), 300)
    assert refused.value.fix == "Set packing = false"


def test_accumulated_batches_learn_what_one_batch_learns(tiny: Path, tracked_run: TrackedRun) -> None:
    weights, losses = [], []
    for size, accumulation in ((4, 1), (1, 4), (2, 2)):
        watcher = Watcher()
        trainer, model = trainer_of(
            tracked_run,
            tiny,
            watcher,
            sft=SftSettings(group_by_length=False),
            device_train_batch_size=size,
            grad_accumulation=accumulation,
            learning_rate=1e-3,
        )
        assert trainer.fit(None).steps == watcher.total == 4
        losses.append(watcher.losses)
        weights.append([weight.detach() for weight in model.parameters() if weight.requires_grad])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
    for other in weights[1:]:
        # Adam divides by the root of squared gradients, so that rounding shows where these are near zero.
        assert max(float((a - b).abs().max()) for a, b in zip(weights[0], other, strict=True)) < 1e-3
        assert sum(float((a - b).norm()) for a, b in zip(weights[0], other, strict=True)) < 1e-2


def test_an_evaluation_is_the_mean_over_tokens_whatever_the_batch_size(tiny: Path, tracked_run: TrackedRun) -> None:
    found = []
    for size in (1, 3, 16):
        trainer, model = trainer_of(tracked_run, tiny, Watcher(), device_validation_batch_size=size)
        found.append(trainer.evaluate()["eval_loss"])
        assert model.training
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-5)
    total = count = 0.0
    for row in trainer._trainer.eval_dataset:
        labels = row["labels"][1:]
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        for position, label in enumerate(labels):
            if label != IGNORED:
                total -= float(torch.log_softmax(logits[position], dim=-1)[label])
                count += 1
    assert found[0] == pytest.approx(total / count, rel=1e-4)


def test_training_learns_and_reports_its_steps(tiny: Path, tracked_run: TrackedRun) -> None:
    watcher = Watcher()
    trainer, _ = trainer_of(tracked_run, tiny, watcher, epochs=6, grad_accumulation=1)
    before = trainer.evaluate()["eval_loss"]
    result = trainer.fit(None)
    after = trainer.evaluate()["eval_loss"]
    assert (result.steps, result.epochs, result.status) == (24, 6.0, "finished")
    assert after < before - 0.3
    assert watcher.losses[-1] < watcher.losses[0]
    assert len(watcher.losses) == len(watcher.tokens) == 24
    # Every token of every example once per epoch, padding not counted.
    every = sum(len(row["input_ids"]) for row in trainer._trainer.train_dataset)
    assert [sum(watcher.tokens[at : at + 4]) for at in range(0, 24, 4)] == [every] * 6
    assert result.metrics["train_loss"] == pytest.approx(sum(watcher.losses) / 24, rel=0.01)


def test_packed_training_learns_every_example(tiny: Path, tracked_run: TrackedRun) -> None:
    watcher = Watcher()
    trainer, _ = trainer_of(tracked_run, tiny, watcher, epochs=8, packing=True, device_train_batch_size=2)
    before = trainer.evaluate()["eval_loss"]
    trainer.fit(None)
    assert trainer.evaluate()["eval_loss"] < before - 0.1
    assert sum(watcher.tokens) == 8 * sum(len(row["input_ids"]) for row in trainer._trainer.eval_dataset)
    assert any(line.startswith("packing    16 examples in ") for line in tracked_run.said)


def test_a_loss_that_is_no_number_is_reported_as_such(tiny: Path, tracked_run: TrackedRun) -> None:
    watcher = Watcher()
    settings = SftSettings(stop_on_nonfinite=False)
    trainer, model = trainer_of(tracked_run, tiny, watcher, sft=settings, grad_accumulation=1)
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = math.nan
    trainer.fit(None)
    assert all(math.isnan(loss) for loss in watcher.losses)


def test_mixed_precision_reaches_the_layers(
    tiny: Path, tracked_run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the weights are float32, and products are computed in bfloat16, in training and in evaluation."""
    mixed = {"bf16": True, "fp16": False, "use_cpu": True}
    monkeypatch.setattr("ftcore_sft.arguments.mixed_precision", lambda model, training: mixed)
    trainer, model = trainer_of(tracked_run, tiny, Watcher(), sft=SftSettings(fast_cpu=False), grad_accumulation=1)
    seen: dict[bool, set[Any]] = {True: set(), False: set()}
    layer = next(module for name, module in model.named_modules() if name.endswith("gate_proj"))
    layer.register_forward_hook(lambda module, inputs, output: seen[module.training].add(output.dtype))
    trainer.fit(None)
    assert seen == {True: {torch.bfloat16}, False: {torch.bfloat16}}


def test_answers_are_greedy_and_the_same_alone_and_together(tiny: Path, tracked_run: TrackedRun) -> None:
    trainer, model = trainer_of(tracked_run, tiny, Watcher())
    questions = [turns[:1] for turns in CONVERSATIONS[:5]]
    together = trainer.generate(questions, 8)
    assert together == [trainer.generate([question], 8)[0] for question in questions]
    assert model.training
    assert not model.config.use_cache
