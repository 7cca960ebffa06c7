"""Every key of the configuration page does what the page says.

The table below follows the page. Each row has a key, what is observed, and the values with what must then be seen:
real jobs on a tiny real model, as far as each observation needs them. A key that was ignored would show the same
for all its values. Keys that take a story to observe have a test of their own behind the table.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli
import tomli_w

from ftcore.check import check
from ftcore.config import Config, load
from ftcore.contracts import Examples, Prepared
from ftcore.run import pipeline, runs
from ftcore.run.stages import Stages
from ftcore.settings.data import DataSettings
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore_mlflow import MlflowSettings

if TYPE_CHECKING:
    from ftcore.plugins import Plugins

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")

ROWS = 16
DATA = {
    "train.jsonl": [
        {
            "question": f"How many apples are {number} and 1?",
            "answer": f"{number} and 1 are {number + 1}.",
            "rule": f"Be brief, {number}.",
            "ask": f"Double of {number}?",
            "reply": f"It is {2 * number}.",
        }
        for number in range(ROWS)
    ],
    "half.jsonl": [{"question": f"Is {number} even?", "answer": "Look."} for number in range(ROWS // 2)],
    "held_out.jsonl": [{"question": f"And {number}?", "answer": "I know."} for number in range(8)],
}
BASELINE: Mapping[str, Any] = {
    "training_data_id": "train.jsonl",
    "max_sequence_length": 128,
    "dtype": "float32",
    "load_in_4bit": False,
    "rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "epochs": 1,
    "learning_rate": 0.01,
    "device_train_batch_size": 4,
    "grad_accumulation": 1,
    "warmup_steps": 0,
    "lr_scheduler_type": "constant",
    "optimizer": "adamw_torch",
    "use_gradient_checkpointing": False,
    "log_steps": 1,
    "save_steps": 100,
}
"""Four optimizer steps of four examples."""

SLOW_TRACKERS = {"report_timeout": 120.0}


class Job:
    """One configuration; each attribute does as much of the job as it takes."""

    def __init__(self, folder: Path, plugins: Plugins, config: Config) -> None:
        self._folder, self._plugins, self.config = folder, plugins, config
        self.trainer: Any = None
        self.batches: list[tuple[int, ...]] = []

    @cached_property
    def _stages(self) -> Stages:
        return Stages(self.config, self._plugins, check(self.config, self._plugins)[0])

    @cached_property
    def _aside(self) -> runs.ActiveRun:
        (self._folder / "aside").mkdir(exist_ok=True)
        active = runs.ActiveRun(self._folder / "aside", self.config, datetime.now().astimezone(), {})
        active.close()
        return active

    @cached_property
    def name(self) -> str:
        """The run's name."""
        return self._stages.run_name(datetime(2025, 6, 29, 14, 30, 22))

    @cached_property
    def _loader(self) -> Any:
        return self._stages.loader(self._aside)

    @cached_property
    def tokenizer(self) -> Any:
        return self._loader.tokenizer()

    @cached_property
    def model(self) -> Any:
        """The model as the loader makes it."""
        _ = self.tokenizer
        return self._loader.model()

    @cached_property
    def prepared(self) -> Prepared:
        """The tokens and labels."""
        train, validation = self._stages.datasets(self._aside)
        formatter = self._stages.formatter(self._aside, train)
        settings = self.config.fine_tuner
        data = settings.view(DataSettings)
        prepared: Prepared = self._stages.trainer(self._aside).prepare(
            Examples(train, validation, formatter, self.tokenizer, data, settings.max_sequence_length)
        )
        return prepared

    @cached_property
    def run(self) -> Path:
        """The directory of the whole run; `trainer` and `batches` are known after it."""
        from ftcore_sft.loss import SupervisedLoss
        from ftcore_sft.trainer import SupervisedTrainer

        attach, loss = SupervisedTrainer.attach, SupervisedLoss.__call__

        def watched_attach(watched: Any, *args: Any) -> None:
            attach(watched, *args)
            self.trainer = watched._trainer

        def watched_loss(watched: Any, model: Any, batch: Mapping[str, Any]) -> Any:
            rows, length = batch["input_ids"].shape
            # On a CPU the examples lie end to end, and the batch says where each begins.
            self.batches.append((len(batch["borders"]) - 1 if "borders" in batch else rows, length))
            return loss(watched, model, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SupervisedTrainer, "attach", watched_attach)
            patch.setattr(SupervisedLoss, "__call__", watched_loss)
            return pipeline.run(self.config, self._plugins).dir

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        return [json.loads(line) for line in (self.run / "metrics.jsonl").read_text().splitlines()]

    @property
    def losses(self) -> list[dict[str, Any]]:
        """The lines with a training loss."""
        return [line for line in self.metrics if "loss" in line]

    @property
    def manifest(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.run / "manifest.json").read_text())
        return facts

    @property
    def adapter(self) -> dict[str, Any]:
        """The saved `adapter_config.json`."""
        values: dict[str, Any] = json.loads((self.run / "model" / "adapter_config.json").read_text())
        return values

    @property
    def weights(self) -> dict[str, Any]:
        """The saved tensors."""
        from safetensors.torch import load_file

        (file,) = (self.run / "model").glob("*.safetensors")
        return dict(load_file(file))

    @property
    def checkpoints(self) -> list[int]:
        return sorted(int(path.name.partition("-")[2]) for path in (self.run / "checkpoints").glob("checkpoint-*"))

    def layer(self, name: str) -> Any:
        """A module of the first layer of the loaded model, by the end of its name."""
        return next(module for path, module in self.model.named_modules() if path.endswith(name))

    def text(self, row: int = 0) -> str:
        """A training example as text."""
        return str(self.tokenizer.decode(self.prepared.train[row]["input_ids"]))

    def learned(self, row: int = 0) -> str:
        """The supervised part of a training example as text."""
        return str(self.tokenizer.decode([label for label in self.prepared.train[row]["labels"] if label != -100]))

    @property
    def said(self) -> str:
        return (self.run / "run.log").read_text()


class Jobs:
    """Makes jobs; one with the same settings is made once."""

    def __init__(self, folder: Path, models: Mapping[str, Path], plugins: Plugins) -> None:
        self._folder, self._models, self._plugins = folder, models, plugins
        self._made: dict[str, Job] = {}
        for name, rows in DATA.items():
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def __call__(self, sections: Mapping[str, Mapping[str, Any]] | None = None, *, again: str = "", **own: Any) -> Job:
        """The job with these keys of `[fine_tuner]`, and of other sections; `again` tells equal jobs apart."""
        key = repr((again, sorted((sections or {}).items()), sorted(own.items(), key=lambda item: item[0])))
        if key not in self._made:
            self._made[key] = self._make(sections or {}, own)
        return self._made[key]

    def _make(self, sections: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any]) -> Job:
        folder = self._folder / f"job{len(self._made)}"
        folder.mkdir()
        settings = {"base_model_id": "tiny_llama", **BASELINE, **own}
        settings["base_model_id"] = str(self._models[settings["base_model_id"]])
        given = {name: dict(section) for name, section in sections.items()}
        # Without the dry step the batches that are seen are those of training and evaluation.
        own = {"output_dir": str(folder / "runs"), "dry_step": False}
        given["run"] = own | SLOW_TRACKERS | given.get("run", {})
        if given.get("mlflow", {}).keys() & {"run_name"} == set():
            given["run"].setdefault("name", "it")
        path = self._folder / f"job{len(self._made)}.toml"
        path.write_text(tomli_w.dumps({"fine_tuner": settings, **given}))
        return Job(folder, self._plugins, load(path, self._plugins))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, plugins: Plugins, tiny_llama: Path, tiny_qwen2: Path) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("jobs"), {"tiny_llama": tiny_llama, "tiny_qwen2": tiny_qwen2}, plugins)


@dataclass(frozen=True)
class Row:
    """A key, the values to try with what must be seen, how it is seen, and what else must be set for it."""

    key: str
    seen: Sequence[tuple[Any, Any]]
    observe: Callable[[Job], Any]
    beside: Mapping[str, Any] = field(default_factory=dict)


def key(name: str, *seen: tuple[Any, Any], by: Callable[[Job], Any], **beside: Any) -> Row:
    return Row(name, seen, by, beside)


def approx(*values: float) -> Any:
    return pytest.approx(list(values), rel=1e-6)


def rates(job: Job) -> list[float]:
    return [line["learning_rate"] for line in job.losses]


def steps(job: Job) -> list[int]:
    return [line["step"] for line in job.losses]


def adapted(job: Job) -> set[str]:
    return {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in job.model.named_modules() if ".lora_A." in name}


def trained_biases(job: Job) -> set[str]:
    named = job.model.named_parameters()
    return {name.split(".")[-2] for name, weight in named if weight.requires_grad and name.endswith("bias")}


def weight_types(job: Job) -> set[str]:
    return {type(module).__name__ for name, module in job.model.named_modules() if name.endswith("q_proj.base_layer")}


def optimizer(job: Job) -> tuple[str, str, int]:
    """The package, the class and the bits of the optimizer's state."""
    made = job.metrics and job.trainer.optimizer.optimizer
    bits = getattr(getattr(made, "args", None), "optim_bits", 32)
    return type(made).__module__.partition(".")[0], type(made).__name__, bits


def cosine(step: int) -> float:
    return 0.01 * (1 + math.cos(math.pi * step / 4)) / 2


AUTO_DTYPE = {True: torch.bfloat16, False: torch.float32}
FIRST = "How many apples are 0 and 1?"

TABLE = [
    # Model Configuration
    key(
        "base_model_id",
        ("tiny_llama", "llama"),
        ("tiny_qwen2", "qwen2"),
        by=lambda job: job.model.config.model_type,
    ),
    key(
        "max_sequence_length",
        (128, (0, True)),
        (32, (ROWS, False)),
        by=lambda job: (
            job.prepared.facts["truncated_rows"],
            max(len(row["input_ids"]) for row in job.prepared.train) > 32,
        ),
    ),
    key(
        "dtype",
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        by=lambda job: job.layer("q_proj.base_layer").weight.dtype,
    ),
    key("load_in_4bit", (False, {"Linear"}), (True, {"Linear4bit"}), by=weight_types),
    key("load_in_8bit", (False, {"Linear"}), (True, {"Linear8bitLt"}), by=weight_types),
    key(
        "full_finetuning",
        (False, ("LoRA adapter", True, False)),
        (True, ("model", False, True)),
        by=lambda job: (
            job.manifest["saved"][0]["what"],
            (job.run / "model" / "adapter_model.safetensors").exists(),
            (job.run / "model" / "model.safetensors").exists(),
        ),
    ),
    # LoRA Configuration
    key(
        "rank",
        (4, (4, {4})),
        (8, (8, {8})),
        by=lambda job: (
            job.adapter["r"],
            {min(tensor.shape) for tensor in job.weights.values()},
        ),
    ),
    key("lora_alpha", (8, 2.0), (6, 1.5), by=lambda job: job.layer("q_proj").scaling["default"]),
    key(
        "lora_dropout",
        (0.0, 0.0),
        (0.3, 0.3),
        by=lambda job: getattr(job.layer("q_proj.lora_dropout.default"), "p", 0.0),
    ),
    key(
        "target_modules",
        (["q_proj", "down_proj"], {"q_proj", "down_proj"}),
        (["v_proj"], {"v_proj"}),
        by=adapted,
    ),
    key(
        "bias",
        ("none", set()),
        ("lora_only", {"base_layer"}),
        ("all", {"base_layer", "k_proj", "v_proj"}),
        by=trained_biases,
        base_model_id="tiny_qwen2",
        target_modules=["q_proj"],
    ),
    key(
        "use_rslora",
        (False, 2.0),
        (True, 4.0),
        by=lambda job: job.layer("q_proj").scaling["default"],
    ),
    key(
        "loftq_config",
        ("null", (True, False)),
        ({"loftq_bits": 4, "loftq_iter": 1}, (False, True)),
        by=lambda job: (
            base_weight_is_untouched(job),
            bool(job.layer("q_proj.lora_B.default").weight.any()),
        ),
    ),
    # Dataset Configuration
    key("training_data_id", ("train.jsonl", ROWS), ("half.jsonl", ROWS // 2), by=lambda job: len(job.prepared.train)),
    key(
        "validation_data_id",
        ("null", (False, None)),
        ("held_out.jsonl", (True, 8)),
        by=lambda job: (
            "eval_loss" in job.manifest["metrics"],
            job.manifest["data"].get("validation_rows"),
        ),
    ),
    key(
        "question_column",
        ("question", f"user\n{FIRST}<"),
        ("ask", "user\nDouble of 0?<"),
        by=lambda job: re.search(r"user\n.*?<", job.text())[0],  # type: ignore[index]
    ),
    key(
        "ground_truth_column",
        ("answer", "0 and 1 are 1.<|im_end|>"),
        ("reply", "It is 0.<|im_end|>"),
        by=lambda job: job.learned(),
    ),
    key(
        "system_prompt_column",
        ("null", "<|im_start|>user"),
        ("rule", "<|im_start|>system\nBe brief, 0.<|im_end|>\n<|im_start|>user"),
        by=lambda job: job.text().partition("user")[0] + "user",
    ),
    key(
        "system_prompt_override_text",
        ("null", ""),
        ("Be kind.", "<|im_start|>system\nBe kind.<|im_end|>\n"),
        by=lambda job: job.text(3).partition("<|im_start|>user")[0],
    ),
    # Training Parameters
    key("epochs", (1, [1, 2, 3, 4]), (2, [1, 2, 3, 4, 5, 6, 7, 8]), (0.5, [1, 2]), by=steps),
    key("learning_rate", (0.01, approx(*[0.01] * 4)), (0.003, approx(*[0.003] * 4)), by=rates),
    key(
        "device_train_batch_size",
        (4, ([1, 2, 3, 4], {4})),
        (8, ([1, 2], {8})),
        by=lambda job: (steps(job), {rows for rows, _ in job.batches}),
    ),
    key(
        "device_validation_batch_size",
        (2, [2] * 4 + [4] * 4 + [2] * 4),
        (8, [8] + [4] * 4 + [8]),
        by=lambda job: [rows for rows, _ in (job.metrics and job.batches)],  # evaluated before and after four steps
        validation_data_id="held_out.jsonl",
    ),
    key(
        "grad_accumulation",
        (1, ([1, 2, 3, 4], 4)),
        (2, ([1, 2], 4)),
        by=lambda job: (steps(job), len(job.metrics and job.batches)),
    ),
    key(
        "warmup_steps",
        (0, approx(0.01, 0.01, 0.01, 0.01)),
        (2, approx(0.0, 0.005, 0.01, 0.01)),
        by=rates,
    ),
    key(
        "lr_scheduler_type",
        ("constant", approx(0.01, 0.01, 0.01, 0.01)),
        ("linear", approx(0.01, 0.0075, 0.005, 0.0025)),
        ("cosine", approx(*map(cosine, range(4)))),
        by=rates,
    ),
    key(
        "optimizer",
        ("adamw_torch", ("torch", "AdamW", 32, False)),
        ("adafactor", ("transformers", "Adafactor", 32, False)),
        ("paged_adamw_8bit", ("bitsandbytes", "AdamW", 8, not torch.cuda.is_available())),
        by=lambda job: (*optimizer(job), "optimizer = paged_adamw_8bit cannot run here" in job.said),
    ),
    key(
        "weight_decay",
        (0.01, {0.0, 0.01}),
        (0.2, {0.0, 0.2}),
        by=lambda job: {group["weight_decay"] for group in (job.metrics and job.trainer).optimizer.param_groups},
    ),
    # Advanced Training Options
    key(
        "use_gradient_checkpointing",
        (False, False),
        (True, True),
        ("unsloth", True),
        by=lambda job: job.layer("layers.0").gradient_checkpointing,
    ),
    key(
        "use_flash_attention",
        (True, "sdpa"),
        (False, "eager"),
        by=lambda job: job.model.config._attn_implementation,
    ),
    key(
        "packing",
        (False, (ROWS, False)),
        (True, (6, True)),  # three examples of about 40 tokens in each
        by=lambda job: (
            len(job.prepared.train),
            "position_ids" in job.prepared.train.column_names,
        ),
    ),
    key(
        "train_on_responses_only",
        (True, "0 and 1 are 1.<|im_end|>"),
        (
            False,
            f"<|im_start|>user\n{FIRST}<|im_end|>\n<|im_start|>assistant\n0 and 1 are 1.<|im_end|>\n",
        ),
        by=lambda job: job.learned(),
    ),
    key(
        "question_part",
        ("<|im_start|>user\n", "<|im_start|>user\n"),
        ("<|im_start|>user", "<|im_start|>user"),  # what is learned is the same: an answer ends with its end token
        by=lambda job: job.prepared.facts["question_part"],
        answer_part="<|im_start|>assistant\n",
    ),
    key(
        "answer_part",
        ("<|im_start|>assistant\n", "0 and 1 are 1.<|im_end|>"),
        ("<|im_start|>assistant", "\n0 and 1 are 1.<|im_end|>"),
        by=lambda job: job.learned(),
        question_part="<|im_start|>user\n",
    ),
    # Logging and Monitoring
    key("log_steps", (1, [1, 2, 3, 4]), (2, [2, 4]), by=steps, log_first_step=False),
    key("log_first_step", (False, [3]), (True, [1, 3]), by=steps, log_steps=3),
    key(
        "report_to",
        ("none", []),
        ("tensorboard", ["events"]),  # mlflow has a test of its own below
        by=lambda job: [path.name[:6] for path in job.run.glob("tensorboard/*")],
    ),
    # Model Saving
    key("save_steps", (100, [4]), (3, [3, 4]), by=lambda job: job.checkpoints),
    key("save_total_limit", (2, [3, 4]), (3, [2, 3, 4]), by=lambda job: job.checkpoints, save_steps=1),
]
"""Rows of `[fine_tuner]`, in the order of the page."""

NAMES = [
    ({"run_name": "my-model"}, "my-model"),
    ({"run_name_prefix": "exp-"}, "exp-20250629-143022"),
    ({"run_name_suffix": "-v1"}, "20250629-143022-v1"),
    ({"run_name": "0.0.1", "run_name_prefix": "exp-", "run_name_suffix": "-v1"}, "exp-0.0.1-v1"),
    ({"run_name": "null"}, "20250629-143022"),
]
"""The page's table of run names, and what it says about both ends."""

STORIES: set[tuple[str, str]] = set()
"""The keys that the tests behind the table are about."""


def story(*keys: str, section: str = "fine_tuner") -> Callable[[Any], Any]:
    STORIES.update((section, name) for name in keys)
    return lambda test: test


@pytest.mark.parametrize(
    ("row", "value", "expected"),
    [pytest.param(row, value, seen, id=f"{row.key}={value}") for row in TABLE for value, seen in row.seen],
)
def test_key(job: Jobs, row: Row, value: Any, expected: Any) -> None:
    sections = {"audit": {"max_truncated": 1.0}} if row.key == "max_sequence_length" else None
    assert row.observe(job(sections, **row.beside, **{row.key: value})) == expected


def test_the_table_tells_values_apart() -> None:
    for row in TABLE:
        seen = [expected for _, expected in row.seen]
        assert len(seen) >= 2, row.key
        assert all(seen[0] != other for other in seen[1:]), row.key


def base_weight_is_untouched(job: Job) -> bool:
    from safetensors.torch import load_file

    stored = load_file(Path(job.config.fine_tuner.base_model_id) / "model.safetensors")
    return torch.equal(job.layer("q_proj.base_layer").weight, stored["model.layers.0.self_attn.q_proj.weight"])


@story("dtype")
def test_dtype_null_chooses_what_the_device_computes_in(job: Jobs) -> None:
    from ftcore_transformers.hardware import cpu_computes_bfloat16

    expected = torch.bfloat16 if torch.cuda.is_available() else AUTO_DTYPE[cpu_computes_bfloat16()]
    assert job(dtype="null").layer("q_proj.base_layer").weight.dtype == expected


@story("lr_scheduler_type", "warmup_steps")
def test_every_schedule_warms_up(job: Jobs) -> None:
    for schedule in ("linear", "cosine", "constant"):
        assert rates(job(lr_scheduler_type=schedule, warmup_steps=2))[:3] == approx(0.0, 0.005, 0.01), schedule


@story("seed")
def test_seed_draws_the_adapter_and_the_order_of_the_data(job: Jobs) -> None:
    one, same, other = (job(again=again, seed=seed) for again, seed in (("", 1), ("again", 1), ("", 2)))
    assert one.run != same.run
    assert one.weights.keys() == same.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[name], same.weights[name]) for name in one.weights)
    assert [line["loss"] for line in one.losses] == [line["loss"] for line in same.losses]
    assert not any(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    first, second, third = (list(one_job.trainer._get_train_sampler()) for one_job in (one, same, other))
    assert first == second != third


@story("dataset_num_proc")
def test_dataset_num_proc_bounds_the_processes(job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocess.context import SpawnContext

    started: list[int] = []
    pool = SpawnContext.Pool

    def counted(context: Any, processes: int, **options: Any) -> Any:
        started.append(processes)
        return pool(context, processes, **options)

    monkeypatch.setattr(SpawnContext, "Pool", counted)
    monkeypatch.setattr("ftcore_sft.prepare._ROWS_PER_PROCESS", 4)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "one"))  # what one prepared, the other would find there
    alone = job(dataset_num_proc=1).prepared.train[:]
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "two"))
    together = job(dataset_num_proc=2).prepared.train[:]
    assert alone == together
    assert started == [2]


@story("push_to_hub")
@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes/text content.:DeprecationWarning")
def test_push_to_hub_pushes_the_final_model(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    from ftcore.testing.hub import FakeHub

    with FakeHub() as hub:
        hub.add_token("hf_WriteTokenOfAda0123456789", user="ada")
        for name, value in hub.environment("hf_WriteTokenOfAda0123456789").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        kept = job(push_to_hub=False)
        assert kept.run.exists()
        assert hub.repos == {}
        pushed = job(push_to_hub=True)
        assert pushed.run.exists()
        assert list(hub.repos) == ["ada/it"]
        files = hub.repos["ada/it"].files()
    adapter = (pushed.run / "model" / "adapter_model.safetensors").read_bytes()
    assert files["adapter_model.safetensors"] == adapter


@story("run_name", "run_name_prefix", "run_name_suffix", section="mlflow")
@pytest.mark.parametrize(("given", "expected"), NAMES, ids=lambda value: value if isinstance(value, str) else None)
def test_run_names_are_those_of_the_page(job: Jobs, given: dict[str, str], expected: str) -> None:
    assert job({"mlflow": given, "run": {"name": "null"}}).name == expected


@story("run_name", "run_name_prefix", "tracking_uri", "experiment_name", section="mlflow")
# mlflow's own models use a loader strategy that SQLAlchemy 2.1 deprecates, and its store's pooled connections are
# closed by the garbage collector.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_mlflow_keys_say_where_and_how_the_run_is_tracked(
    job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for uri, experiment, run_name in (("one.db", "apples", "0.0.1"), ("two.db", "pears", "0.0.2")):
        section = {
            "tracking_uri": f"sqlite:///{tmp_path / uri}",
            "experiment_name": experiment,
            "run_name": run_name,
            "run_name_prefix": "exp-",
        }
        tracked = job({"mlflow": section}, report_to="mlflow")
        assert tracked.run.name == f"exp-{run_name}"
        client = MlflowClient(tracking_uri=section["tracking_uri"])
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        assert {one.name for one in client.search_experiments()} == {"Default", experiment}
        (run,) = client.search_runs([found.experiment_id])
        assert run.info.run_name == f"exp-{run_name}"
        assert run.info.status == "FINISHED"
        assert run.data.params["fine_tuner.rank"] == "4"
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in history] == [1, 2, 3, 4]


def test_no_key_is_missing() -> None:
    table = {("fine_tuner", row.key) for row in TABLE} | STORIES
    of_models = {("fine_tuner", name) for name in FineTunerSettings.model_fields}
    of_models |= {("mlflow", name) for name in MlflowSettings.model_fields}
    beyond_the_page = {("fine_tuner", "chat_template"), ("fine_tuner", "trust_remote_code"), ("mlflow", "tags")}
    assert table == of_models - beyond_the_page


def test_the_page_and_the_table_have_the_same_keys(page: str) -> None:
    on_page = {
        (section, name)
        for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
        for section, values in tomli.loads(block).items()
        for name in values
    }
    assert on_page == {("fine_tuner", row.key) for row in TABLE} | STORIES


@pytest.fixture
def page() -> str:
    path = Path(__file__).parents[2].parent / "shared" / "spec" / "fine-tuner-configuration.md"
    if not path.exists():
        pytest.skip(f"the configuration page is not at {path}")
    return path.read_text(encoding="utf-8")
