"""The model before and after training: its loss on the validation data, and its answers to the sampled questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftcore.contracts import Conversation, FitResult, Prepared
from ftcore.run.steps import Work


@dataclass(frozen=True)
class Measured:
    """The model at one moment: its metrics on the validation data, and its answers to the sampled questions."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    answers: Sequence[str] = ()


def measured(work: Work, trainer: Any, prepared: Prepared, moment: str, wanted: bool = True) -> tuple[Measured, bool]:
    """The model "before" or "after" training, and whether that was measured just now; a resumed run may know it."""
    if (known := work.steps.result(moment)) is not None:
        return Measured(known["metrics"], known["answers"]), False
    metrics = trainer.evaluate() if wanted and prepared.validation is not None else {}
    questions = [conversation[:-1] for conversation in prepared.sample]
    answers = trainer.generate(questions, work.config.run.sample_tokens) if questions and wanted else []
    work.steps.done(moment, metrics=dict(metrics), answers=list(answers))
    return Measured(metrics, answers), True


def compared(sample: Sequence[Conversation], before: Measured, after: Measured) -> list[tuple[str, str, str]]:
    """Each question with the answer before ("" where it was not asked) and after."""
    if not after.answers:
        return []
    rows = []
    for index, conversation in enumerate(sample):
        question = next(turn["content"] for turn in reversed(conversation[:-1]) if turn["role"] == "user")
        rows.append((question, before.answers[index] if before.answers else "", after.answers[index]))
    return rows


def tell(work: Work, rows: Sequence[tuple[str, str, str]]) -> None:
    """Show the questions and answers."""
    for question, first, second in rows:
        work.active.say(f"\nQ      {question}")
        work.active.say(f"before {' '.join(first.split())}" if first else "before (not asked)")
        work.active.say(f"after  {' '.join(second.split())}")


def summary(before: Measured, after: Measured, fit: FitResult) -> dict[str, float]:
    """The metrics of the run as a whole."""
    metrics = dict(fit.metrics)
    if "eval_loss" in before.metrics:
        metrics["eval_loss_before"] = before.metrics["eval_loss"]
    if "eval_loss" in after.metrics:
        metrics["eval_loss"] = after.metrics["eval_loss"]
    return metrics
