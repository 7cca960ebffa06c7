"""The loader transformers and the trainer sft on a GPU."""

from __future__ import annotations

import gc
import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

if TYPE_CHECKING:
    from ftcore.plugins import Plugins

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.xdist_group("gpu"),
    # What the libraries warn of depends on the card and its drivers.
    pytest.mark.filterwarnings("default"),
]

ROWS = [{"question": f"How many are {number} and 1?", "answer": f"They are {number + 1}."} for number in range(16)]
SETTINGS: Mapping[str, Any] = {
    "max_sequence_length": 128,
    "load_in_4bit": False,
    "dtype": "bfloat16",
    "rank": 8,
    "lora_dropout": 0.0,
    "epochs": 1,
    "learning_rate": 0.003,
    "device_train_batch_size": 4,
    "grad_accumulation": 1,
    "warmup_steps": 0,
    "lr_scheduler_type": "constant",
    "optimizer": "adamw_torch",
    "use_gradient_checkpointing": False,
    "log_steps": 1,
}


class Trained:
    """A finished run: its losses, what it said, and its trainer."""

    def __init__(self, folder: Path, trainer: Any, peak: int) -> None:
        self.trainer, self.peak = trainer, peak
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        self.losses = [line["loss"] for line in lines if "loss" in line]
        self.said = (folder / "run.log").read_text()

    def weight(self) -> Any:
        """The first query projection's frozen weight, or the trained one."""
        modules = (module for name, module in self.trainer.model.named_modules() if name.endswith("q_proj"))
        first: Any = next(modules)
        return getattr(first, "base_layer", first).weight


Train = Callable[..., Trained]


def _train(folder: Path, plugins: Plugins, **own: Any) -> Trained:
    import torch

    from ftcore.config import load
    from ftcore.run import pipeline
    from ftcore.testing.models import tiny_model
    from ftcore_sft.trainer import SupervisedTrainer

    if not (folder / "model").exists():
        tiny_model(folder / "model", hidden_size=256, intermediate_size=512, head_dim=64)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    name = f"run{len(list(folder.iterdir()))}"
    settings = {"base_model_id": str(folder / "model"), "training_data_id": str(folder / "rows.jsonl")}
    config = {
        "fine_tuner": {**settings, **SETTINGS, **own},
        "stages": {"loader": "transformers"},
        "run": {"output_dir": str(folder), "name": name},
    }
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(config))
    attach, seen = SupervisedTrainer.attach, []

    def watched(trainer: Any, *args: Any) -> None:
        attach(trainer, *args)
        seen.append(trainer._trainer)

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SupervisedTrainer, "attach", watched)
        run = pipeline.run(load(path, plugins), plugins)
    return Trained(run.dir, seen[0], torch.cuda.max_memory_allocated())


@pytest.fixture
def train(cuda: str, tmp_path: Path, plugins: Plugins) -> Train:
    """Runs a job on the GPU."""
    return partial(_train, tmp_path, plugins)


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        ({"dtype": "bfloat16"}, "torch.bfloat16"),
        ({"dtype": "float16"}, "torch.float16"),
        ({"dtype": "null", "load_in_4bit": True}, "torch.uint8"),
        ({"dtype": "null", "load_in_8bit": True}, "torch.int8"),
        ({"dtype": "null", "full_finetuning": True, "learning_rate": 0.001}, "torch.float32"),
    ],
    ids=["bfloat16", "float16", "4bit", "8bit", "full"],
)
def test_it_trains_in_every_precision(train: Train, own: dict[str, Any], kind: str) -> None:
    trained = train(**own)
    assert trained.losses[-1] < trained.losses[0]
    assert (trained.weight().device.type, str(trained.weight().dtype)) == ("cuda", kind)


def test_the_fused_attention_kernel_is_chosen(train: Train) -> None:
    expected = "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"
    assert f"attention {expected}" in train().said
    assert "attention eager" in train(use_flash_attention=False).said


def test_packed_examples_stay_apart(train: Train) -> None:
    import torch

    from ftcore_sft.isolation import _difference

    trained = train(packing=True)
    model = trained.trainer.model.get_base_model().eval()
    rows = 1 if trained.trainer.data_collator.flatten else 2
    with torch.no_grad():
        assert _difference(model, model.config.vocab_size, rows=rows) < 0.05
    assert trained.losses[0] == pytest.approx(train().losses[0], rel=0.1)


def test_optimizers_with_pages_run(train: Train) -> None:
    trained = train(optimizer="paged_adamw_8bit")
    assert "cannot run here" not in trained.said
    assert type(trained.trainer.optimizer.optimizer).__module__.startswith("bitsandbytes")


def test_gradient_checkpointing_saves_memory(train: Train) -> None:
    long = {"max_sequence_length": 2_048, "packing": True, "device_train_batch_size": 8}
    assert train(**long, use_gradient_checkpointing=True).peak < train(**long).peak


def test_the_loss_is_computed_on_supervised_positions_only(train: Train) -> None:
    assert train().trainer._supervised_loss.short
