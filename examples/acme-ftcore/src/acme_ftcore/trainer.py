"""Acme's trainer: a training loop in plain PyTorch that can be read in five minutes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acme_ftcore.batches import collate, order
from acme_ftcore.checkpoint import Checkpoints
from acme_ftcore.labels import IGNORED, Encoded, conversations, encode
from ftcore.contracts import Conversation, Examples, FitResult, Observer, Prepared, Run
from ftcore.settings.audit import AuditSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings

if TYPE_CHECKING:
    from torch.nn import Module


class AcmeTrainer:
    """Implements `ftcore.contracts.Trainer`: AdamW, a linear warm-up, then a constant learning rate."""

    def __init__(
        self,
        run: Run,
        training: TrainingSettings,
        logging: LoggingSettings,
        saving: SavingSettings,
        audit: AuditSettings,
    ) -> None:
        self._run, self._training, self._logging, self._audit = run, training, logging, audit
        self._checkpoints = Checkpoints(run.dir / "checkpoints", saving)
        self._tokenizer: Any = None
        self._model: Any = None
        self._observer: Any = None
        self._train: Any = None
        self._validation: Any = None

    def prepare(self, examples: Examples) -> Prepared:
        self._tokenizer = examples.tokenizer
        train = conversations(examples.train, examples, self._audit)
        held_out = conversations(examples.validation or (), examples, self._audit)
        encoded = self._encode(train, examples)
        return Prepared(
            train=encoded.dataset(),
            validation=self._encode(held_out, examples).dataset() if held_out else None,
            sample=held_out[: examples.samples],
            facts={"truncated_rows": encoded.truncated, "longest_untruncated": encoded.longest, "labels": "acme"},
        )

    def attach(self, model: Module, prepared: Prepared, observer: Observer) -> None:
        import torch

        self._model, self._observer = model, observer
        self._train, self._validation = prepared.train, prepared.validation
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=self._training.learning_rate, weight_decay=self._training.weight_decay
        )

    def evaluate(self) -> Mapping[str, float]:
        import torch

        if self._validation is None:
            return {}
        self._model.eval()
        size = self._training.device_validation_batch_size
        loss, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(self._validation), size):
                rows = self._validation[start : start + size]
                batch_loss, tokens = self._loss(rows)
                loss, count = loss + float(batch_loss), count + tokens
        self._model.train()
        return {"eval_loss": loss / max(count, 1)}

    def fit(self, resume_from: Path | None) -> FitResult:
        per_step = self._training.device_train_batch_size * self._training.grad_accumulation
        per_epoch = math.ceil(len(self._train) / per_step)
        total = math.ceil(self._training.epochs * per_epoch)
        first = self._checkpoints.load(resume_from, self._model, self._optimizer) if resume_from else 0
        self._run.say(f"trainer    acme: plain PyTorch, AdamW, {len(self._parameters)} tensors")
        self._observer.begin(total, first)
        step, losses = first, []
        for step, rows in self._steps(first, total, per_step, per_epoch):
            losses.append(self._step(step, rows))
            if step % self._logging.log_steps == 0 or (step == 1 and self._logging.log_first_step):
                self._observer.log(step, {"loss": losses[-1], "learning_rate": self._rate(step)})
            stop = self._observer.should_stop()
            if stop or self._checkpoints.due(step, total):
                self._observer.checkpoint(step, self._checkpoints.save(step, self._model, self._optimizer))
            if stop:
                break
        metrics = {"train_loss": sum(losses) / len(losses)} if losses else {}
        return FitResult(step, step / per_epoch, metrics, "finished" if step >= total else "interrupted")

    def generate(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        import torch

        answers = []
        self._model.eval()
        for conversation in conversations:
            prompt = self._tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
            inputs = self._tokenizer(prompt, add_special_tokens=False, return_tensors="pt").to(self._model.device)
            with torch.no_grad():
                output = self._model.generate(
                    **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=self._tokenizer.pad_token_id
                )
            new = output[0, inputs["input_ids"].shape[1] :]
            answers.append(self._tokenizer.decode(new, skip_special_tokens=True).strip())
        self._model.train()
        return answers

    def _encode(self, turns: list[Conversation], examples: Examples) -> Encoded:
        only = self._training.train_on_responses_only
        return encode(turns, examples.tokenizer, examples.max_length, only)

    def _steps(self, first: int, total: int, per_step: int, per_epoch: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of each step that is still to take; the same ones whether or not the run was resumed."""
        for step in range(first, total):
            shuffled = order(len(self._train), self._training.seed + step // per_epoch)
            start = step % per_epoch * per_step
            yield step + 1, self._train[shuffled[start : start + per_step]]

    def _step(self, step: int, rows: dict[str, Any]) -> float:
        """One optimizer step; the loss is averaged over the supervised tokens of all its batches."""
        size = self._training.device_train_batch_size
        # A token is learned from the one before it, so the first of a row never is.
        supervised = max(sum(label != IGNORED for labels in rows["labels"] for label in labels[1:]), 1)
        summed = 0.0
        for start in range(0, len(rows["labels"]), size):
            loss, _ = self._loss({name: column[start : start + size] for name, column in rows.items()})
            (loss / supervised).backward()
            summed += loss.item()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(step)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._observer.step(step, sum(len(ids) for ids in rows["input_ids"]))
        return float(summed / supervised)

    def _rate(self, step: int) -> float:
        return self._training.learning_rate * min(1.0, step / max(self._training.warmup_steps, 1))

    def _loss(self, rows: Mapping[str, Any]) -> tuple[Any, int]:
        """The cross entropy of a batch, summed, and over how many tokens."""
        from torch.nn.functional import cross_entropy

        batch = collate(rows, self._tokenizer.pad_token_id, self._model.device)
        labels = batch.pop("labels")[:, 1:]
        logits = self._model(**batch, use_cache=False).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return loss, int((labels != IGNORED).sum())
