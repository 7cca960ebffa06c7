"""The trainer: which rows it takes, which optimizers run, how it stops and goes on."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from sft_parts import STYLES, Given, conversation, rows_of

from ftcore.config import load
from ftcore.contracts import BadRows, Examples, Prepared
from ftcore.errors import DataError, FtcoreError, ModelError, TrainingError
from ftcore.run import pipeline
from ftcore.settings.audit import AuditSettings
from ftcore.settings.data import DataSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore.testing.models import tiny_model
from ftcore_sft.optimizers import OPTIMIZERS, runnable
from ftcore_sft.settings import SftSettings
from ftcore_sft.trainer import SupervisedTrainer

if TYPE_CHECKING:
    from conftest import TrackedRun
    from ftcore.plugins import Plugins

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")

TOKENIZER = STYLES["chatml"].tokenizer
GOOD = conversation("Who?", "Me.")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def trainer_of(run: TrackedRun, audit: AuditSettings | None = None, **training: Any) -> SupervisedTrainer:
    values = {"optimizer": "adamw_torch", "epochs": 1, "grad_accumulation": 1, "warmup_steps": 0} | training
    return SupervisedTrainer(
        run,
        TrainingSettings(**values),
        LoggingSettings(log_steps=1),
        SavingSettings(save_steps=1000),
        audit or AuditSettings(),
        SftSettings(),
    )


def prepared_by(trainer: SupervisedTrainer, conversations: list[Any], samples: int = 0) -> Prepared:
    rows = rows_of(conversations)
    validation = rows if samples else None
    return trainer.prepare(
        Examples(rows, validation, Given(), TOKENIZER, DataSettings(training_data_id="d"), 256, samples)
    )


def test_bad_rows_are_left_out_and_named(tracked_run: TrackedRun) -> None:
    prepared = prepared_by(trainer_of(tracked_run), [[], *[GOOD] * 19, []], samples=1)
    assert prepared.validation is not None
    assert (len(prepared.train), len(prepared.validation)) == (19, 19)
    assert (prepared.facts["rows"], prepared.facts["bad_rows"]) == (21, 2)
    first = ((0, "no turns"), (20, "no turns"))
    assert list(prepared.bad_rows) == [BadRows("training", 2, 21, first), BadRows("validation", 2, 21, first)]
    assert tracked_run.warned == []  # the audit tells


@pytest.mark.parametrize("packing", [False, True])
def test_nothing_but_bad_rows_is_left_to_the_audit(packing: bool, tracked_run: TrackedRun) -> None:
    prepared = prepared_by(trainer_of(tracked_run, packing=packing), [[], []])
    assert (len(prepared.train), prepared.examples) == (0, None)
    assert [bad.count for bad in prepared.bad_rows] == [2]
    assert prepared.order is not None
    assert list(prepared.order()) == []


def test_the_sample_is_the_first_good_validation_rows(tracked_run: TrackedRun) -> None:
    others = [conversation(f"Who is {number}?", "Somebody.") for number in range(200)]
    open_ended = conversation("Nobody answers")
    audit = AuditSettings(max_bad_rows=0.5)
    prepared = prepared_by(trainer_of(tracked_run, audit), [[], open_ended, *others], samples=3)
    assert list(prepared.sample) == others[:3]


def test_derived_markers_are_said_and_kept(tracked_run: TrackedRun) -> None:
    prepared = prepared_by(trainer_of(tracked_run), [GOOD])
    assert prepared.facts["question_part"] == "<|im_start|>user\n"
    assert prepared.facts["answer_part"] == "<|im_start|>assistant\n"
    assert any("read off the chat template" in line for line in tracked_run.said)


def run_error(tmp_path: Path, plugins: Plugins, name: str, model: Path, **own: Any) -> FtcoreError:
    """How a whole run ends."""
    rows = [{"question": "Is anybody in there, or is this house empty?", "answer": "No."}] * 4
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"base_model_id": str(model), "training_data_id": "data.jsonl", "load_in_4bit": False, **own}
    tables = {
        "fine_tuner": settings,
        "audit": {"max_truncated": 1.0},
        "run": {"output_dir": str(tmp_path / "runs"), "name": name},
    }
    (tmp_path / "config.toml").write_text(tomli_w.dumps(tables))
    with pytest.raises(FtcoreError) as failed:
        pipeline.run(load(tmp_path / "config.toml", plugins), plugins)
    return failed.value


def test_all_labels_masked_stops_before_the_model_is_loaded(tmp_path: Path, plugins: Plugins, tiny: Path) -> None:
    model = tmp_path / "without-weights"
    shutil.copytree(tiny, model, ignore=shutil.ignore_patterns("*.safetensors"))
    error = run_error(tmp_path, plugins, "masked", model, max_sequence_length=24)
    assert isinstance(error, DataError)
    assert error.why.startswith(
        "all 96 labels are masked; the first example is '<|im_start|>user\\nIs anybody in there"
    )
    assert error.why.endswith(", where '<|im_start|>assistant\\n' was looked for")
    assert json.loads((tmp_path / "runs" / "masked" / "manifest.json").read_text())["status"] == "failed"
    # With labels left, the same run comes as far as the missing weights.
    assert isinstance(run_error(tmp_path, plugins, "unmasked", model), ModelError)


def test_the_optimizers_are_names_that_transformers_knows() -> None:
    from transformers.training_args import OptimizerNames

    assert set(OPTIMIZERS) <= {name.value for name in OptimizerNames}


def test_paged_optimizers_are_replaced_aloud_without_a_gpu(
    tracked_run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert runnable("paged_adamw_8bit", True, tracked_run) == "adamw_8bit"
    assert tracked_run.warned == [
        "optimizer = paged_adamw_8bit cannot run here (paging needs a GPU): adamw_8bit is used instead"
    ]
    with pytest.raises(TrainingError) as refused:
        runnable("paged_lion_8bit", False, tracked_run)
    assert refused.value.what == "optimizer = paged_lion_8bit cannot run here"
    assert (refused.value.why, refused.value.fix) == ("paging needs a GPU", "Set optimizer = lion_8bit")


def test_optimizers_of_bitsandbytes_are_replaced_aloud_without_it(
    tracked_run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name))
    assert runnable("paged_adamw_8bit", True, tracked_run) == "adamw_torch"
    assert runnable("rmsprop_bnb", True, tracked_run) == "rmsprop"
    assert "the package bitsandbytes is not installed: pip install 'ftcore[quantization]'" in tracked_run.warned[0]
    with pytest.raises(TrainingError, match="optimizer = lion_8bit cannot run here"):
        runnable("lion_8bit", True, tracked_run)
    assert runnable("adamw_torch", False, tracked_run) == "adamw_torch"


class Listener:
    """An observer that asks for a stop after some steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.losses: dict[int, float] = {}
        self.checkpoints: list[Path] = []
        self.began: tuple[int, int] = (-1, -1)
        self._stop_after, self._steps = stop_after, 0

    def begin(self, total_steps: int, from_step: int) -> None:
        self.began = (total_steps, from_step)

    def step(self, step: int, tokens: int) -> None:
        self._steps = step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self.losses[step] = metrics["loss"]

    def checkpoint(self, step: int, folder: Path) -> None:
        self.checkpoints.append(folder)

    def should_stop(self) -> bool:
        return self._steps == self._stop_after


def fit(
    run: TrackedRun, tiny: Path, listener: Listener, resume: Path | None = None, **training: Any
) -> tuple[Any, Any]:
    """A full fine-tuning of the tiny model, and its weights behind it."""
    from transformers import AutoModelForCausalLM

    trainer = trainer_of(run, train_on_responses_only=True, **training)
    data = [conversation(f"Who is {number}?", f"Number {number}." * (1 + number % 3)) for number in range(16)]
    prepared = prepared_by(trainer, data)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(str(tiny))
    trainer.attach(model, prepared, listener)
    return trainer.fit(resume), {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_changes_the_weights(optimizer: str, tiny: Path, tracked_run: TrackedRun) -> None:
    from safetensors.torch import load_file

    if importlib.util.find_spec("bitsandbytes") is None and runnable(optimizer, True, tracked_run) != optimizer:
        pytest.skip("bitsandbytes is not installed")
    before = load_file(tiny / "model.safetensors")
    result, weights = fit(tracked_run, tiny, Listener(), optimizer=optimizer, epochs=0.5)
    assert result.steps == 2
    name = "model.layers.0.mlp.up_proj.weight"
    assert weights[name].isfinite().all()
    assert not torch.equal(weights[name], before[name])


def test_a_stop_is_obeyed_after_the_step_and_leaves_a_checkpoint(tiny: Path, tracked_run: TrackedRun) -> None:
    listener = Listener(stop_after=3)
    result, _ = fit(tracked_run, tiny, listener, epochs=2)
    assert (result.status, result.steps) == ("interrupted", 3)
    assert listener.checkpoints == [tracked_run.dir / "checkpoints" / "checkpoint-3"]
    assert (listener.checkpoints[0] / "optimizer.pt").exists()


RESUMED = {
    "grouped by length": {},
    "in random order": {"packing": True, "device_train_batch_size": 1},
    "8 bits": {"optimizer": "adamw_8bit"},
    "accumulated": {"device_train_batch_size": 1, "grad_accumulation": 4},
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED)
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(
    tiny: Path, tracked_run: TrackedRun, options: dict[str, Any]
) -> None:
    if "8bit" in options.get("optimizer", ""):
        pytest.importorskip("bitsandbytes")
    given = {"epochs": 3, "lr_scheduler_type": "cosine", **options}
    whole, first, second = Listener(), Listener(stop_after=5), Listener()
    undisturbed, expected = fit(tracked_run, tiny, whole, **given)
    shutil.rmtree(tracked_run.dir / "checkpoints")
    fit(tracked_run, tiny, first, **given)
    result, found = fit(tracked_run, tiny, second, first.checkpoints[0], **given)
    assert second.began == (undisturbed.steps, 5)
    assert (result.status, result.steps) == ("finished", undisturbed.steps)
    assert first.losses | second.losses == whole.losses
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert result.metrics["train_loss"] == undisturbed.metrics["train_loss"]


def test_a_checkpoint_of_the_last_step_is_loaded_and_nothing_is_trained(tiny: Path, tracked_run: TrackedRun) -> None:
    listener = Listener()
    whole, expected = fit(tracked_run, tiny, listener, epochs=0.6)
    again = Listener()
    result, found = fit(tracked_run, tiny, again, listener.checkpoints[-1], epochs=0.6)
    assert (result.status, result.steps, again.losses) == ("finished", whole.steps, {})
    assert result.metrics["train_loss"] == whole.metrics["train_loss"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
