"""A plain unsloth script, as its documentation shows them; nothing of ftcore's is in it.

    python plain_unsloth.py SETTINGS.json RESULT.json

The result has the tokens and labels of all rows, and, of each kind of weights, the loss of each step.
"""

import json
import sys
from pathlib import Path

import torch
from unsloth import FastLanguageModel
from unsloth.chat_templates import train_on_responses_only

# isort: split
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

given = json.loads(Path(sys.argv[1]).read_text())


def model_of(dtype, load_in_4bit):
    model, tokenizer = FastLanguageModel.from_pretrained(
        given["model"],
        max_seq_length=given["max_length"],
        dtype=getattr(torch, dtype),
        load_in_4bit=load_in_4bit,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=given["rank"],
        lora_alpha=given["lora_alpha"],
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        use_gradient_checkpointing=False,
        random_state=given["seed"],
    )
    return model, tokenizer


def trainer_on(model, tokenizer, rows, loss_type):
    turns = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}] for row in rows
    ]
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"messages": turns}),
        args=SFTConfig(
            output_dir=given["output_dir"],
            max_length=given["max_length"],
            per_device_train_batch_size=given["batch_size"],
            gradient_accumulation_steps=given["accumulation"],
            learning_rate=given["learning_rate"],
            warmup_steps=given["warmup_steps"],
            lr_scheduler_type="linear",
            weight_decay=0.01,
            num_train_epochs=1,
            optim="adamw_torch",
            seed=given["seed"],
            bf16=False,
            gradient_checkpointing=False,
            loss_type=loss_type,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    parts = {"instruction_part": given["question_part"], "response_part": given["answer_part"]}
    trainer = train_on_responses_only(trainer, **parts)
    trainer.data_collator.pad_to_multiple_of = given["pad_to_multiple_of"]
    return trainer


def losses_of(rows, dtype, load_in_4bit):
    # unsloth's own loss scales a bfloat16 gradient with a factor that is rounded to bfloat16; TRL's does not.
    loss_type = "nll" if dtype == "float32" else "chunked_nll"
    model, tokenizer = model_of(dtype, load_in_4bit)
    adapter = {parameter: parameter.data for parameter in model.parameters() if parameter.requires_grad}
    trainer = trainer_on(model, tokenizer, given["rows"][:rows], loss_type)
    for parameter, data in adapter.items():  # TRL makes the adapter of a quantized model bfloat16, ftcore does not
        parameter.data = data
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


losses = {name: losses_of(**kind) for name, kind in given["kinds"].items()}
prepared = trainer_on(*model_of("float32", False), given["all_rows"], "nll").train_dataset
result = {
    "input_ids": [list(row) for row in prepared["input_ids"]],
    "labels": [list(row) for row in prepared["labels"]],
    "losses": losses,
}
Path(sys.argv[2]).write_text(json.dumps(result))
