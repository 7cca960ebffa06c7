"""Values of `[fine_tuner]` that cannot both be meant, and values that have no effect beside others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftcore.errors import Problem
from ftcore.settings.lora import LoraSettings

_EXCLUSIVE = (
    ("load_in_4bit", "load_in_8bit", "a model is quantized once"),
    ("load_in_4bit", "full_finetuning", "quantized weights cannot be trained"),
    ("load_in_8bit", "full_finetuning", "quantized weights cannot be trained"),
    ("load_in_4bit", "loftq_config", "LoftQ quantizes the full-precision weights itself"),
    ("load_in_8bit", "loftq_config", "LoftQ quantizes the full-precision weights itself"),
)


def contradictions(given: Mapping[str, Any]) -> Iterator[Problem]:
    """The problems in what the user wrote in `[fine_tuner]`, defaults not counted."""

    def is_on(key: str) -> bool:
        return given.get(key) not in (None, "null", False)

    for first, second, why in _EXCLUSIVE:
        if is_on(first) and is_on(second):
            yield _problem(first, f"{first} and {second} are both set: {why}", f"Remove {first} or {second}")

    question, answer = is_on("question_part"), is_on("answer_part")
    if question != answer:
        here, missing = ("question_part", "answer_part") if question else ("answer_part", "question_part")
        yield _problem(
            here,
            f"{here} is set and {missing} is not: only together do they mark where a turn begins and ends",
            "Set both, or neither to read them off the chat template",
        )
    if given.get("train_on_responses_only") is False:
        for key in ("question_part", "answer_part"):
            if is_on(key):
                yield _no_effect(key, "train_on_responses_only is false")
    if given.get("full_finetuning") is True:
        for key in LoraSettings.model_fields:
            if key != "loftq_config" and key in given:
                yield _no_effect(key, "full_finetuning is true and there is no adapter")
        if is_on("loftq_config"):
            yield _problem(
                "loftq_config",
                "full_finetuning and loftq_config are both set: LoftQ starts an adapter and there is none",
                "Remove full_finetuning or loftq_config",
            )
    if is_on("system_prompt_column") and is_on("system_prompt_override_text"):
        yield _no_effect("system_prompt_column", "system_prompt_override_text replaces it in every row")


def _problem(key: str, message: str, fix: str) -> Problem:
    return Problem(f"fine_tuner.{key}", message, fix)


def _no_effect(key: str, why: str) -> Problem:
    return Problem(f"fine_tuner.{key}", f"{key} has no effect: {why}", severity="warning")
