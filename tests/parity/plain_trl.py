"""A plain script with transformers, PEFT and TRL; nothing of ftcore's is in it.

    python plain_trl.py SETTINGS.json RESULT.json

The result has the tokens and labels of all rows, and the loss of each step.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer

given = json.loads(Path(sys.argv[1]).read_text())

set_seed(given["seed"])
tokenizer = AutoTokenizer.from_pretrained(given["model"])
model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
model = get_peft_model(
    model,
    LoraConfig(
        task_type="CAUSAL_LM",
        r=given["rank"],
        lora_alpha=given["lora_alpha"],
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
)


def trainer_on(rows):
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


prepared = trainer_on(given["all_rows"])
trainer = trainer_on(given["rows"])
trainer.train()
batch = [prepared.data_collator([row]) for row in prepared.train_dataset]
result = {
    "input_ids": [row["input_ids"][0].tolist() for row in batch],
    "labels": [row["labels"][0].tolist() for row in batch],
    "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
}
Path(sys.argv[2]).write_text(json.dumps(result))
