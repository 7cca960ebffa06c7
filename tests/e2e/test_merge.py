"""`ftcore merge` and the saver `merged`: a whole model that has kept what the adapter learned, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w

torch = pytest.importorskip("torch", reason="merging needs the extra [train]")

ROWS = [
    {"question": f"How many {thing}?", "answer": f"There are {count} {thing}."}
    for count, thing in enumerate(("apples", "pears", "books", "bees", "beds"), 2)
]
HELD_OUT = [{"question": f"How many {thing}?", "answer": f"There are 9 {thing}."} for thing in ("aunts", "apples now")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models in bfloat16, one with large weights, and rows."""
    from transformers import AutoModelForCausalLM

    from ftcore.testing.models import tiny_model

    folder = tmp_path_factory.mktemp("merge")
    for name, size in (("base", 0.02), ("large", 0.3)):
        tiny_model(folder / name, initializer_range=size)
        model = AutoModelForCausalLM.from_pretrained(str(folder / name), dtype=torch.bfloat16)
        model.generation_config.max_new_tokens = 7
        model.save_pretrained(str(folder / name))
    for name, rows in (("train.jsonl", ROWS), ("held-out.jsonl", HELD_OUT)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def job(folder: Path, ftcore: Any) -> Any:
    """Runs `ftcore run` with these settings; the outcome and the run directory."""

    def run(name: str, savers: list[str], **settings: Any) -> tuple[Any, Path]:
        own = {
            "base_model_id": str(folder / "base"),
            "training_data_id": "train.jsonl",
            "validation_data_id": "held-out.jsonl",
            "load_in_4bit": False,
            "dtype": "bfloat16",
            "max_sequence_length": 64,
            "epochs": 6,
            "learning_rate": 0.01,
            "lora_dropout": 0.0,
            "optimizer": "adamw_torch",
            "device_train_batch_size": 5,
            "grad_accumulation": 1,
            "save_steps": 1000,
        }
        tables = {
            "fine_tuner": {key: value for key, value in (own | settings).items() if value is not None},
            "stages": {"loader": "transformers", "savers": savers},
            "run": {"output_dir": str(folder / "runs"), "name": name},
            "sft": {"eval_steps": 1000},
        }
        (folder / "config.toml").write_text(tomli_w.dumps(tables))
        return ftcore("run", str(folder / "config.toml")), folder / "runs" / name

    return run


@pytest.fixture
def trained(folder: Path, job: Any, tmp_path: Path) -> Path:
    """A copy of a run directory with an adapter, trained once."""
    if not (folder / "runs" / "plain").exists():
        outcome, _ = job("plain", ["local"])
        assert outcome.code == 0, outcome.err
    return Path(shutil.copytree(folder / "runs" / "plain", tmp_path / "plain"))


def facts(run: Path) -> Any:
    return json.loads((run / "merged" / "merge.json").read_text())


def test_the_saver_writes_a_model_that_loads_alone(job: Any) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outcome, run = job("saved", ["local", "merged"])
    assert outcome.code == 0, outcome.err
    assert f"saved      merged model (bfloat16): {run / 'merged'}" in outcome.out
    assert "the merge keeps" in outcome.out
    merged = AutoModelForCausalLM.from_pretrained(str(run / "merged"), dtype="auto").eval()
    assert merged.dtype == torch.bfloat16
    assert merged.generation_config.max_new_tokens == 7
    assert not hasattr(merged, "peft_config")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(run / "merged"))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "How many?"}], tokenize=False)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    adapter = AutoPeftModelForCausalLM.from_pretrained(str(run / "model"), dtype=torch.float32).eval()
    with torch.no_grad():
        short, exact = merged.float()(input_ids=ids).logits, adapter(input_ids=ids).logits
        plain = adapter.disable_adapter()
        with plain:
            before = adapter(input_ids=ids).logits
    assert (short - exact).abs().max() < 0.1 * (before - exact).abs().max()
    # What the run has measured is not measured again; the merged model is.
    manifest = json.loads((run / "manifest.json").read_text())
    told = facts(run)["held_out_loss"]
    assert told["base"] == manifest["metrics"]["eval_loss_before"]
    assert told["adapter"] == manifest["metrics"]["eval_loss"]
    card = (run / "merged" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "- lora" not in card
    assert f"| merged | {told['merged']:.4f} |" in card


@pytest.mark.parametrize("dtype", ["bf16", "float16", "fp32"])
def test_the_command_measures_all_three(dtype: str, trained: Path, ftcore: Any) -> None:
    outcome = ftcore("merge", str(trained), "--dtype", dtype)
    assert outcome.code == 0, outcome.err
    told = facts(trained)
    assert told["dtype"] == {"bf16": "bfloat16", "fp32": "float32"}.get(dtype, dtype)
    assert told["update_kept"] == pytest.approx(1, abs=0.02)
    assert told["gain_kept"] == pytest.approx(1, abs=0.05)
    losses = told["held_out_loss"]
    metrics = json.loads((trained / "manifest.json").read_text())["metrics"]
    assert losses["base"] == pytest.approx(metrics["eval_loss_before"], abs=0.01)
    assert losses["adapter"] == pytest.approx(metrics["eval_loss"], abs=0.01)
    assert losses["adapter"] < losses["base"] - 0.1
    assert f"merged {losses['merged']:.4f}" in outcome.out
    assert f"into the full-precision weights of {trained.parent}" not in outcome.out


STORE = """
    from pathlib import Path
    from ftcore import hookimpl

    @hookimpl
    def ftcore_resolve_model(locator):
        return Path(locator.path).read_text()
"""


def test_a_merge_takes_the_weights_that_were_trained_on(
    job: Any, folder: Path, ftcore: Any, install: Any, tmp_path: Path
) -> None:
    """Though the id of the model leads to others by then; where they are gone, that is told."""
    install("acme-store", {"acme_store": STORE}, {"store": "acme_store"})
    first, second = (Path(shutil.copytree(folder / "base", tmp_path / name)) for name in ("first", "second"))
    pointer = tmp_path / "current"
    pointer.write_text(str(first))
    outcome, run = job("moved", ["local"], base_model_id=f"store:{pointer}")
    assert outcome.code == 0, outcome.err
    assert json.loads((run / "manifest.json").read_text())["model_source"] == str(first)
    pointer.write_text(str(second))
    outcome = ftcore("merge", str(run))
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    first.rename(tmp_path / "elsewhere")
    outcome = ftcore("merge", str(run), "--force")
    assert outcome.code == 0, outcome.err
    assert f"{first}, is gone; its id leads to {second} now" in outcome.err


def test_a_merge_that_loses_the_gain_is_refused(job: Any, folder: Path, ftcore: Any) -> None:
    """Large weights and a low learning rate: most changes are smaller than half a step of bfloat16."""
    own = {"base_model_id": str(folder / "large"), "validation_data_id": "train.jsonl", "learning_rate": 2e-4}
    outcome, run = job("timid", ["local"], **own)
    assert outcome.code == 0, outcome.err
    refused = ftcore("merge", str(run), "--rounding", "nearest")
    assert refused.code == 7
    (line,) = [line for line in refused.errors if line.startswith("error: ")]
    assert "of what the adapter gains on the held-out rows, and was refused" in line
    assert "below half a step" in line
    assert "--rounding stochastic" in line
    assert "--force" in line
    assert not (run / "merged").exists()
    assert not list(run.glob(".merged*"))
    forced = ftcore("merge", str(run), "--rounding", "nearest", "--force")
    assert forced.code == 0, forced.err
    lost = facts(run)
    assert lost["gain_kept"] < 0.9
    stochastic = ftcore("merge", str(run))
    assert stochastic.code == 0, stochastic.err
    assert facts(run)["update_kept"] == pytest.approx(1, abs=0.05)
    assert lost["update_kept"] < 0.9
    assert facts(run)["gain_kept"] > lost["gain_kept"]


def test_without_held_out_rows_nothing_is_claimed(job: Any, folder: Path, ftcore: Any) -> None:
    outcome, run = job("unchecked", ["local", "merged"], validation_data_id=None)
    assert outcome.code == 0, outcome.err
    said = (
        "nothing could be checked about the merge: the run has no validation data (name some with ftcore merge --data)"
    )
    assert f"warning: {said}" in outcome.errors
    assert facts(run)["held_out_loss"] is None
    assert "could not be checked: the run has no validation data" in (run / "merged" / "README.md").read_text()
    checked = ftcore("merge", str(run), "--data", str(folder / "held-out.jsonl"))
    assert checked.code == 0, checked.err
    assert facts(run)["gain_kept"] is not None


def test_what_a_merge_needs(trained: Path, tmp_path: Path, job: Any, ftcore: Any) -> None:
    nothing = ftcore("merge", str(tmp_path))
    assert (nothing.code, nothing.errors[-1]) == (
        2,
        f"error: {tmp_path} is no run directory. Name a run directory, such as runs/<name>",
    )
    missing = ftcore("merge", str(trained), "--base", "/no/such/model")
    assert missing.code == 7
    assert "there are no weights to merge into at /no/such/model" in missing.errors[-1]
    unread = ftcore("merge", str(trained), "--data", "nowhere.jsonl")
    assert (unread.code, unread.errors[-1].partition(":")[2][:32]) == (4, ' there is no file or folder "now')
    shutil.rmtree(trained / "model")
    gone = ftcore("merge", str(trained))
    assert gone.code == 5
    assert f"there is no adapter in {trained / 'model'}" in gone.errors[-1]
    assert gone.errors[-1].endswith("It was saved before: copy it back to where it was, or train again")
    full, _ = job("full", ["local", "merged"], full_finetuning=True)
    assert full.code == 2
    assert "there is no adapter to merge" in full.err


def test_loftq_is_merged_into_the_base_that_it_altered(job: Any, ftcore: Any) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("scipy")
    outcome, run = job("loftq", ["local", "merged"], loftq_config={"loftq_bits": 4})
    assert outcome.code == 0, outcome.err
    assert facts(run)["base"] == "the base model in loftq-base, which the run has kept"
    again = ftcore("merge", str(run))
    assert again.code == 0, again.err
    assert facts(run)["gain_kept"] == pytest.approx(1, abs=0.1)


def test_a_run_on_quantized_weights_is_merged_into_the_full_ones(job: Any, folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    outcome, run = job("quantized", ["local", "merged"], load_in_4bit=True)
    assert outcome.code == 0, outcome.err
    told = facts(run)
    assert told["base"] == f"the full-precision weights of {folder / 'base'}"
    assert told["gain_kept"] == pytest.approx(1, abs=0.1)
    assert "quantization_config" not in json.loads((run / "merged" / "config.json").read_text())
