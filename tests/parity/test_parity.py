"""What ftcore trains on, and how, is what plain scripts with the same libraries do: tokens, labels and loss curves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("unsloth")]
pytest.importorskip("transformers", reason="training needs the extra [train]")

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = ("gsm8k_train_2k.jsonl", "gsm8k_test_300.jsonl")
STEPS, BATCH = 8, 2
COMMON = {
    "max_length": 1024,
    "rank": 8,
    "lora_alpha": 16,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "batch_size": BATCH,
    "accumulation": 1,
    "load_in_4bit": False,
    "seed": 11,
    "question_part": "<|im_start|>user\n",
    "answer_part": "<|im_start|>assistant\n",
}


@dataclass(frozen=True)
class Ground:
    """What both sides start from."""

    folder: Path
    model: Path
    all_rows: list[dict[str, str]]
    rows: list[dict[str, str]]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    from ftcore.errors import ModelError
    from ftcore_smollm2.convert import converted_folder

    if not (DATA / FILES[0]).exists():
        pytest.skip(f"GSM8K is not in {DATA}")
    try:
        model = converted_folder()
    except ModelError as error:
        pytest.skip(str(error))
    all_rows = [json.loads(line) for name in FILES for line in (DATA / name).read_text().splitlines()]
    short = sorted(all_rows, key=lambda row: len(row["question"]) + len(row["answer"]))[: 3 * STEPS * BATCH : 3]
    return Ground(tmp_path_factory.mktemp("parity"), model, all_rows, short)


def plain(ground: Ground, python: Path, script: str, name: str, **own: Any) -> dict[str, Any]:
    """What the script did."""
    folder = ground.folder / name
    folder.mkdir()
    given = {"model": str(ground.model), "all_rows": ground.all_rows, "rows": ground.rows, **COMMON, **own}
    (folder / "given.json").write_text(json.dumps(given | {"output_dir": str(folder / "out")}))
    run(python, str(Path(__file__).with_name(script)), folder / "given.json", folder / "result.json", cwd=folder)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def losses_of_ftcore(ground: Ground, python: Path, loader: str, name: str, **own: Any) -> list[float]:
    """The loss of each step of a run with the settings of the scripts."""
    data = ground.folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ground.rows))
    settings = {
        "base_model_id": str(ground.model),
        "training_data_id": str(data),
        "max_sequence_length": COMMON["max_length"],
        "dtype": "float32",
        "load_in_4bit": False,
        "rank": COMMON["rank"],
        "lora_alpha": COMMON["lora_alpha"],
        "lora_dropout": 0.0,
        "epochs": 1,
        "learning_rate": COMMON["learning_rate"],
        "device_train_batch_size": BATCH,
        "grad_accumulation": 1,
        "warmup_steps": COMMON["warmup_steps"],
        "lr_scheduler_type": "linear",
        "optimizer": "adamw_torch",
        "weight_decay": 0.01,
        "seed": COMMON["seed"],
        "use_gradient_checkpointing": False,
        "log_steps": 1,
        "save_steps": 1000,
    }
    config = {
        "fine_tuner": settings | own,
        "stages": {"loader": loader},
        # What ftcore does better, switched off.
        "sft": {"group_by_length": False, "round_once": False},
        "run": {"output_dir": str(ground.folder / "runs"), "name": name},
    }
    path = ground.folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(config))
    run(python, "-m", "ftcore", "run", path, cwd=ground.folder)
    lines = (ground.folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def tokens_of_ftcore(ground: Ground, responses_only: bool) -> dict[str, list[list[int]]]:
    from datasets import Dataset
    from transformers import AutoTokenizer

    from ftcore_formats.qa import QaFormatter
    from ftcore_sft.markers import derived_markers
    from ftcore_sft.prepare import Recipe, prepare

    tokenizer: Any = AutoTokenizer.from_pretrained(str(ground.model))
    markers = derived_markers(tokenizer) if responses_only else None
    recipe = Recipe(QaFormatter("question", "answer"), tokenizer, markers, COMMON["max_length"])  # type: ignore[arg-type]
    prepared, _ = prepare(Dataset.from_list(ground.all_rows), recipe, 1)
    return {key: prepared[key][:] for key in ("input_ids", "labels")}


def run(python: Path, *arguments: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        [str(python), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "UNSLOTH_COMPILE_LOCATION": str(cwd / "compiled"), "UNSLOTH_DISABLE_STATISTICS": "1"},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_unsloth_and_train_on_responses_only(ground: Ground, unsloth_python: Path) -> None:
    script = plain(ground, unsloth_python, "plain_unsloth.py", "plain-unsloth")
    ours = tokens_of_ftcore(ground, responses_only=True)
    assert len(ours["input_ids"]) == 2300
    assert ours["input_ids"] == script["input_ids"]
    assert ours["labels"] == script["labels"]
    losses = losses_of_ftcore(ground, unsloth_python, "unsloth", "unsloth")
    assert len(losses) == STEPS
    assert losses == pytest.approx(script["losses"], abs=1e-3)


def test_trl_and_peft_on_whole_conversations(ground: Ground) -> None:
    here = Path(sys.executable)
    script = plain(ground, here, "plain_trl.py", "plain-trl", responses_only=False)
    ours = tokens_of_ftcore(ground, responses_only=False)
    assert ours["input_ids"] == script["input_ids"]
    assert ours["labels"] == script["labels"]
    losses = losses_of_ftcore(ground, here, "transformers", "transformers", train_on_responses_only=False)
    assert len(losses) == STEPS
    assert losses == pytest.approx(script["losses"], abs=1e-3)


def test_trl_learns_one_token_more_of_each_answer(ground: Ground) -> None:
    # TRL trains on the whole completion: also on the line break that ChatML writes behind the EOS.
    few = ground.all_rows[::50]
    script = plain(
        ground, Path(sys.executable), "plain_trl.py", "plain-trl-completions", responses_only=True, all_rows=few
    )
    ours = tokens_of_ftcore(Ground(ground.folder, ground.model, few, []), responses_only=True)
    assert ours["input_ids"] == script["input_ids"]
    assert [labels[:-1] for labels in ours["labels"]] == [labels[:-1] for labels in script["labels"]]
    assert all(ids[-1] == labels[-1] for ids, labels in zip(script["input_ids"], script["labels"], strict=True))
    assert all(labels[-2] > 0 > labels[-1] for labels in ours["labels"])
