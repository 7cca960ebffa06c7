"""A plain script with transformers, PEFT and TRL; nothing of ftcore's is in it.

    python plain_trl.py SETTINGS.json RESULT.json

The result has the tokens and labels of all rows, and, of each kind of weights, the loss of each step.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer

given = json.loads(Path(sys.argv[1]).read_text())

tokenizer = AutoTokenizer.from_pretrained(given["model"])


def model_of(dtype, load_in_4bit):
    set_seed(given["seed"])
    quantized = {}
    if load_in_4bit:
        quantized["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=getattr(torch, dtype), **quantized)
    if load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=given["rank"],
        lora_alpha=given["lora_alpha"],
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    return get_peft_model(model, lora)


def trainer_on(model, rows, multiple=None):
    asked = [[{"role": "user", "content": row["question"]}] for row in rows]
    answered = [[{"role": "assistant", "content": row["answer"]}] for row in rows]
    turns = [question + answer for question, answer in zip(asked, answered, strict=True)]
    columns = {"prompt": asked, "completion": answered} if given["responses_only"] else {"messages": turns}
    return SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict(columns),
        args=SFTConfig(
            output_dir=given["output_dir"],
            max_length=given["max_length"],
            pad_to_multiple_of=multiple,
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
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )


def losses_of(rows, **kind):
    model = model_of(**kind)
    adapter = {parameter: parameter.data for parameter in model.parameters() if parameter.requires_grad}
    trainer = trainer_on(model, given["rows"][:rows], given["pad_to_multiple_of"])
    for parameter, data in adapter.items():  # TRL makes the adapter of a quantized model bfloat16, ftcore does not
        parameter.data = data
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


losses = {name: losses_of(**kind) for name, kind in given["kinds"].items()}
prepared = trainer_on(model_of("float32", False), given["all_rows"])
batch = [prepared.data_collator([row]) for row in prepared.train_dataset]
result = {
    "input_ids": [row["input_ids"][0].tolist() for row in batch],
    "labels": [row["labels"][0].tolist() for row in batch],
    "losses": losses,
}
Path(sys.argv[2]).write_text(json.dumps(result))
