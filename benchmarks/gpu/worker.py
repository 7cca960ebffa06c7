"""Measures one case in a process of its own.

    python benchmarks/gpu/worker.py CASE.json FOLDER RESULT.json

FOLDER keeps models and rows between cases.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from cases import Case

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QUESTION, ANSWER = "<|im_start|>user\n", "<|im_start|>assistant\n"
SEED, LEARNING_RATE = 42, 1e-4


def main() -> None:
    case = Case(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    root, result = Path(sys.argv[2]), Path(sys.argv[3])
    if case.runner != "trl":
        _import_unsloth_first(required=case.runner == "unsloth" or not case.dry)
    from clock import limit_memory, memory, stopwatch
    from materials import model_folder, rows_file

    model, (rows, count) = model_folder(root, case.model), rows_file(root, case)
    limit = limit_memory(case.preset) if case.preset else {}
    watch = stopwatch(case.warm_up)
    runner = {"ftcore": ftcore, "unsloth": unsloth, "trl": trl}[case.runner]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        found = runner(case, model, rows, watch)
    tokens = _tokens(model, rows)
    timed = watch.result()
    per_second = tokens / timed["steps"] * timed["timed_steps"] / timed["seconds"]
    measured = {"rows": count, "tokens": tokens, "tokens_per_second": per_second, **timed, **memory(), **limit, **found}
    measured["flops_per_second"] = per_second * case.flops_per_token()
    result.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def _import_unsloth_first(required: bool) -> None:
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    try:
        import unsloth  # noqa: F401
    except ImportError:
        if required:
            raise


def ftcore(case: Case, model: Path, rows: Path, watch: Any) -> dict[str, Any]:
    """`ftcore run`, with the stopwatch added to its trainer."""
    import tomli_w

    from ftcore.config import load
    from ftcore.plugins import discover
    from ftcore.run import pipeline
    from ftcore_sft.trainer import SupervisedTrainer

    attach, seen = SupervisedTrainer.attach, {}

    def watched(trainer: Any, *args: Any) -> None:
        attach(trainer, *args)
        trainer._trainer.add_callback(watch)
        seen["short_loss"] = trainer._trainer._supervised_loss.short
        seen["one_row"] = trainer._trainer.data_collator.flatten

    SupervisedTrainer.attach = watched  # type: ignore[method-assign]
    settings = {
        "base_model_id": str(model),
        "training_data_id": str(rows),
        "max_sequence_length": case.length,
        "load_in_4bit": case.bits == 4,
        "rank": case.rank,
        "lora_alpha": case.rank,
        "lora_dropout": 0.0,
        "epochs": 1,
        "learning_rate": LEARNING_RATE,
        "device_train_batch_size": case.batch_size,
        "grad_accumulation": case.accumulation,
        "warmup_steps": 0,
        "optimizer": _optimizer(case),
        "use_gradient_checkpointing": {"off": False, "true": True, "unsloth": "unsloth"}[case.checkpointing],
        "packing": case.packing,
        "log_steps": 1_000,
        "save_steps": 100_000,
        "seed": SEED,
        "report_to": "none",
    }
    loader = "auto" if case.dry else "unsloth"
    path = Path("config.toml")
    config = {"fine_tuner": settings, "stages": {"loader": loader}, "run": {"output_dir": "runs", "name": "it"}}
    path.write_text(tomli_w.dumps(config), encoding="utf-8")
    plugins = discover()
    run = pipeline.run(load(path, plugins), plugins)
    log = (run.dir / "run.log").read_text(encoding="utf-8")
    seen["loader"] = next(line.partition("loader")[2].strip() for line in log.splitlines() if "loader " in line)
    return seen


def unsloth(case: Case, model: Path, rows: Path, watch: Any) -> dict[str, Any]:
    """The script that unsloth's documentation shows."""
    from unsloth import FastLanguageModel
    from unsloth.chat_templates import train_on_responses_only

    # isort: split
    from trl import SFTConfig, SFTTrainer

    checkpointing = {"off": False, "true": True, "unsloth": "unsloth"}[case.checkpointing]
    loaded, tokenizer = FastLanguageModel.from_pretrained(
        str(model),
        max_seq_length=case.length,
        load_in_4bit=case.bits == 4,
        use_gradient_checkpointing=checkpointing,
    )
    loaded = FastLanguageModel.get_peft_model(
        loaded,
        r=case.rank,
        lora_alpha=case.rank,
        lora_dropout=0.0,
        target_modules=TARGETS,
        use_gradient_checkpointing=checkpointing,
        random_state=SEED,
    )
    trainer = SFTTrainer(
        model=loaded,
        processing_class=tokenizer,
        train_dataset=_conversations(rows),
        args=SFTConfig(**_arguments(case), **({} if checkpointing else {"gradient_checkpointing": False})),
        callbacks=[watch],
    )
    trainer = train_on_responses_only(trainer, instruction_part=QUESTION, response_part=ANSWER)
    trainer.train()
    return {}


def trl(case: Case, model: Path, rows: Path, watch: Any) -> dict[str, Any]:
    """transformers, PEFT and TRL, as TRL's documentation shows them."""
    import importlib.util

    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    cuda = torch.cuda.is_available()
    flash = cuda and importlib.util.find_spec("flash_attn") is not None
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    tokenizer = AutoTokenizer.from_pretrained(str(model))
    attention = "flash_attention_2" if flash else "sdpa"
    loaded = AutoModelForCausalLM.from_pretrained(
        str(model),
        dtype=torch.bfloat16,
        attn_implementation=attention,
        **({"device_map": {"": 0}} if cuda else {}),
        **({"quantization_config": four_bits} if case.bits == 4 else {}),
    )
    if case.bits == 4:
        loaded = prepare_model_for_kbit_training(loaded, use_gradient_checkpointing=False)
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=case.rank, lora_alpha=case.rank, lora_dropout=0.0, target_modules=TARGETS
    )
    checkpointing = case.checkpointing != "off"
    trainer = SFTTrainer(
        model=get_peft_model(loaded, adapter),
        processing_class=tokenizer,
        train_dataset=_conversations(rows, completions=True),
        args=SFTConfig(**_arguments(case), gradient_checkpointing=checkpointing),
        callbacks=[watch],
    )
    trainer.train()
    return {"attention": attention}


def _arguments(case: Case) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "output_dir": "out",
        "max_length": case.length,
        "packing": case.packing,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "per_device_train_batch_size": case.batch_size,
        "gradient_accumulation_steps": case.accumulation,
        "warmup_steps": 0,
        "optim": _optimizer(case),
        "bf16": cuda,
        "use_cpu": not cuda,
        "logging_steps": 1_000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
    }


def _optimizer(case: Case) -> str:
    return "adamw_torch" if case.dry else "adamw_8bit"


def _read(rows: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]


def _turns(row: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]


def _conversations(rows: Path, completions: bool = False) -> Any:
    from datasets import Dataset

    turns = [_turns(row) for row in _read(rows)]
    if completions:
        return Dataset.from_dict({"prompt": [turn[:1] for turn in turns], "completion": [turn[1:] for turn in turns]})
    return Dataset.from_dict({"messages": turns})


def _tokens(model: Path, rows: Path) -> int:
    """The tokens of all rows, padding not counted."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
    texts = tokenizer.apply_chat_template([_turns(row) for row in _read(rows)], tokenize=False)
    return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


if __name__ == "__main__":
    main()
