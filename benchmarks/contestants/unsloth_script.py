"""The script that unsloth's users write: FastLanguageModel, TRL's SFTTrainer, train_on_responses_only."""

# isort: skip_file
import unsloth  # noqa: F401 - it comes before the libraries that it patches
from unsloth import FastLanguageModel
from unsloth.chat_templates import train_on_responses_only

import time

import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from job import ALPHA, LEARNING_RATE, RANK, SEED, TARGETS, read_job, write_report
from meter import Meter

job, folder = read_job()
checkpointing = "unsloth" if job.checkpointing else False
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name=job.model,
    max_seq_length=job.max_length,
    dtype=torch.bfloat16,
    load_in_4bit=False,
    use_gradient_checkpointing=checkpointing,
)
model = FastLanguageModel.get_peft_model(
    model,
    r=RANK,
    target_modules=TARGETS,
    lora_alpha=ALPHA,
    lora_dropout=0,
    bias="none",
    use_gradient_checkpointing=checkpointing,
    random_state=SEED,
)
dataset = load_dataset("json", data_files=job.data, split="train")


def as_text(examples):
    conversations = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in zip(examples["question"], examples["answer"], strict=True)
    ]
    texts = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]
    return {"text": texts}


began = time.perf_counter()
processes = job.processes if job.processes > 1 else None
dataset = dataset.map(as_text, batched=True, num_proc=processes)
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=dataset,
    args=SFTConfig(
        dataset_text_field="text",
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
        output_dir=str(folder / "out"),
        report_to="none",
    ),
)
trainer = train_on_responses_only(
    trainer, instruction_part=job.question_part, response_part=job.answer_part, num_proc=processes
)
prepared = time.perf_counter() - began

meter = Meter()
meter.attach(trainer)
if job.goal == "train":
    trainer.train()
    model.save_pretrained(str(folder / "adapter"))
    tokenizer.save_pretrained(str(folder / "adapter"))
write_report(folder, prepare_seconds=prepared, rows=len(trainer.train_dataset), **meter.report())
