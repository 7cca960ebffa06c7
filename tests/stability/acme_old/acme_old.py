"""Every kind of plugin, written against the hooks and types of ftcore's first day.

It takes fewer arguments than the hooks have had since, its reporter's `finish` knows no time, its trainer gives back no
samples and no order of rows, and nobody here rehearses, batches or evaluates other weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ftcore import hookimpl
from ftcore.contracts import (
    Bid,
    Conversation,
    DataRequest,
    DataView,
    Examples,
    FitResult,
    Formatter,
    Job,
    Loader,
    Locator,
    Observer,
    Prepared,
    Reporter,
    Run,
    RunRecord,
    RunStatus,
    Saved,
    Trained,
    Trainer,
)
from ftcore.errors import DataError, ModelError, Problem
from ftcore.settings import Section
from ftcore.settings.model import ModelSettings
from ftcore.settings.training import TrainingSettings


class OldSettings(Section):
    """The `[old]` section."""

    greeting: str = "You are as old as the hills."
    """The system prompt of every conversation."""

    rows: int = 8
    """How many rows `old:sums` has."""


@hookimpl
def ftcore_settings() -> type[Section]:
    return OldSettings


@hookimpl
def ftcore_check(settings: OldSettings) -> Iterable[Problem]:
    return [Problem("old.rows", "there are few rows", "Take more", "warning")] if settings.rows < 4 else []


@hookimpl
def ftcore_bid(stage: str, data: DataView | None) -> Bid | None:
    if stage == "formatter" and data is not None and "sum" in data.columns:
        return Bid(50, "the rows are sums")
    return None


@hookimpl
def ftcore_name_run() -> str:
    return "old-run"


@hookimpl
def ftcore_launch(job: Job) -> None:
    job.run_here()


@hookimpl
def ftcore_run_started(run: Run) -> None:
    run.say(f"old        {run.name} begins")


@hookimpl
def ftcore_run_finished(run: Run, status: RunStatus) -> None:
    (run.dir / "old-status.txt").write_text(status, encoding="utf-8")


@hookimpl
def ftcore_run_failed(run: Run, error: BaseException) -> None:
    (run.dir / "old-status.txt").write_text(f"failed: {error}", encoding="utf-8")


@hookimpl
def ftcore_resolve_model(locator: Locator) -> str:
    folder = Path(locator.path)
    if not folder.is_dir():
        raise ModelError(f"{locator.text} is no folder")
    return str(folder)


@hookimpl
def ftcore_load_dataset(request: DataRequest, settings: OldSettings) -> Any:
    from datasets import Dataset

    if request.locator.path != "sums":
        raise DataError(f"{request.locator.text} is unknown", fix="Use old:sums")
    rows = [{"sum": f"{number} + 1", "result": str(number + 1)} for number in range(settings.rows)]
    return Dataset.from_list(rows if request.purpose == "training" else rows[:2])


class OldFormatter:
    """A sum as a question and its answer."""

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        if not row["sum"]:
            raise ValueError("the sum is empty")
        return [
            {"role": "system", "content": self.greeting},
            {"role": "user", "content": f"What is {row['sum']}?"},
            {"role": "assistant", "content": row["result"]},
        ]


@hookimpl
def ftcore_make_formatter(settings: OldSettings) -> Formatter:
    return OldFormatter(settings.greeting)


class OldLoader:
    """All weights of a small model, in float32."""

    def __init__(self, source: str) -> None:
        self.source = source

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.source)

    def model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.source, dtype=torch.float32).train()


@hookimpl
def ftcore_make_loader(source: str, model: ModelSettings) -> Loader:
    if model.load_in_4bit:
        raise ModelError("this loader keeps weights in 32 bits", fix="Set load_in_4bit = false")
    return OldLoader(source)


class OldTrainer:
    """A row at a time, SGD, a file of weights as a checkpoint."""

    def __init__(self, run: Run, training: TrainingSettings) -> None:
        self.run, self.training = run, training

    def prepare(self, examples: Examples) -> Prepared:
        self.tokenizer = examples.tokenizer
        return Prepared(
            train=self._encoded(examples.train, examples),
            validation=None if examples.validation is None else self._encoded(examples.validation, examples),
            sample=[examples.formatter(row) for row in examples.validation or ()],
            facts={"rows": len(examples.train)},
        )

    def _encoded(self, rows: Any, examples: Examples) -> Any:
        from datasets import Dataset

        found = []
        for conversation in map(examples.formatter, rows):
            text = self.tokenizer.apply_chat_template(conversation, tokenize=False)
            asked = self.tokenizer.apply_chat_template(conversation[:-1], tokenize=False, add_generation_prompt=True)
            prompt = self.tokenizer(asked, add_special_tokens=False)["input_ids"]
            answer = self.tokenizer(text[len(asked) :], add_special_tokens=False)["input_ids"]
            found.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
        return Dataset.from_list(found)

    def attach(self, model: Any, prepared: Prepared, observer: Observer) -> None:
        import torch

        self.model, self.prepared, self.observer = model, prepared, observer
        self.optimizer = torch.optim.SGD(model.parameters(), lr=self.training.learning_rate)

    def _loss(self, row: Mapping[str, Any]) -> Any:
        import torch

        return self.model(**{name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}).loss

    def evaluate(self) -> Mapping[str, float]:
        import torch

        if self.prepared.validation is None:
            return {}
        with torch.no_grad():
            losses = [self._loss(row).item() for row in self.prepared.validation]
        return {"eval_loss": sum(losses) / len(losses)}

    def fit(self, resume_from: Path | None) -> FitResult:
        import torch

        total = len(self.prepared.train)
        self.observer.begin(total, 0)
        losses = []
        for step, row in enumerate(self.prepared.train, start=1):
            loss = self._loss(row)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
            self.observer.step(step, len(row["input_ids"]))
            self.observer.log(step, {"loss": losses[-1]})
        folder = self.run.dir / "checkpoints" / f"checkpoint-{total}"
        folder.mkdir(parents=True)
        torch.save(self.model.state_dict(), folder / "weights.pt")
        self.observer.checkpoint(total, folder)
        return FitResult(total, 1.0, {"train_loss": sum(losses) / len(losses)})

    def generate(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        answers = []
        for conversation in conversations:
            prompt = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
            inputs = self.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
            output = self.model.generate(
                **inputs, max_new_tokens=4, do_sample=False, pad_token_id=self.tokenizer.pad_token_id
            )
            answers.append(self.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        return answers


@hookimpl
def ftcore_make_trainer(run: Run, training: TrainingSettings) -> Trainer:
    return OldTrainer(run, training)


class OldReporter:
    """Lines of a file; its `finish` is the one from before it was told the time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _write(self, *values: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def start(self, record: RunRecord) -> str | None:
        self._write("start", record.name)
        return "old-1"

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        self._write("log", step, sorted(metrics))

    def artifact(self, path: Path, name: str) -> None:
        self._write("artifact", name)

    def finish(self, status: RunStatus) -> None:
        self._write("finish", status)


@hookimpl
def ftcore_make_reporter(run: Run) -> Reporter:
    return OldReporter(run.dir / "old-reporter.jsonl")


@hookimpl
def ftcore_save(run: Run, trained: Trained) -> Saved:
    return Saved(f"{trained.kind} of {trained.base_model_id}", str(trained.export(run.dir / "old-model")))


@hookimpl
def ftcore_register_commands(cli: click.Group) -> None:
    @cli.command("old-hello")
    def hello() -> None:
        """Say hello."""
        click.echo("hello from 0.1.0")
