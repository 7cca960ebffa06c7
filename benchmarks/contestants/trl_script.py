"""The script that TRL's users write: prompts and completions, SFTTrainer, a LoraConfig."""

# isort: skip_file
import time

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from job import ALPHA, LEARNING_RATE, RANK, SEED, TARGETS, read_job, write_report
from meter import Meter

job, folder = read_job()
tokenizer = AutoTokenizer.from_pretrained(job.model)
model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.bfloat16)
dataset = load_dataset("json", data_files=job.data, split="train")


def as_turns(example):
    return {
        "prompt": [{"role": "user", "content": example["question"]}],
        "completion": [{"role": "assistant", "content": example["answer"]}],
    }


began = time.perf_counter()
processes = job.processes if job.processes > 1 else None
dataset = dataset.map(as_turns, remove_columns=dataset.column_names, num_proc=processes)
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=dataset,
    peft_config=LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, bias="none"
    ),
    args=SFTConfig(
        dataset_num_proc=processes,
        max_length=job.max_length,
        packing=job.packing,
        per_device_train_batch_size=job.batch_size,
        gradient_checkpointing=job.checkpointing,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        logging_steps=1,
        optim="adamw_torch",
        seed=SEED,
        use_cpu=not torch.cuda.is_available(),  # without it TRL refuses its own default precision on a CPU
        output_dir=str(folder / "out"),
        report_to="none",
    ),
)
prepared = time.perf_counter() - began

meter = Meter()
meter.attach(trainer)
if job.goal == "train":
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
write_report(folder, prepare_seconds=prepared, rows=len(trainer.train_dataset), **meter.report())
