"""Values that cannot both be meant, and values that have no effect beside others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftcore.errors import Problem
from ftcore.settings.lora import LoraSettings

Tables = Mapping[str, Mapping[str, Any]]

_EXCLUSIVE = (
    ("load_in_4bit", "load_in_8bit", "a model is quantized once"),
    ("load_in_4bit", "full_finetuning", "quantized weights cannot be trained"),
    ("load_in_8bit", "full_finetuning", "quantized weights cannot be trained"),
    ("load_in_4bit", "loftq_config", "LoftQ quantizes the full-precision weights itself"),
    ("load_in_8bit", "loftq_config", "LoftQ quantizes the full-precision weights itself"),
    ("full_finetuning", "loftq_config", "LoftQ starts an adapter and there is none"),
)


def contradictions(given: Tables) -> Iterator[Problem]:
    """The problems in what the user wrote, defaults not counted.

    Args:
        given: the values by section and key, as their fields' types.
    """
    own = given.get("fine_tuner", {})
    yield from _exclusive(own)
    yield from _turn_markers(own)
    yield from _without_adapter(own)
    yield from _without_validation(own, given.get("run", {}))
    yield from _push(own, given.get("stages", {}))
    if _is_on(own, "system_prompt_column") and _is_on(own, "system_prompt_override_text"):
        yield _no_effect("system_prompt_column", "system_prompt_override_text replaces it in every row")


def excluded(own: Mapping[str, Any]) -> frozenset[str]:
    """The keys of `[fine_tuner]` that cannot be on beside what is on here."""
    pairs = [
        *((first, second) for first, second, _ in _EXCLUSIVE),
        *((second, first) for first, second, _ in _EXCLUSIVE),
    ]
    return frozenset(off for on, off in pairs if _is_on(own, on))


def _exclusive(own: Mapping[str, Any]) -> Iterator[Problem]:
    for first, second, why in _EXCLUSIVE:
        if _is_on(own, first) and _is_on(own, second):
            yield _problem(first, f"{first} and {second} are both set: {why}", f"Remove {first} or {second}")


def _turn_markers(own: Mapping[str, Any]) -> Iterator[Problem]:
    question, answer = _is_on(own, "question_part"), _is_on(own, "answer_part")
    if question != answer:
        here, missing = ("question_part", "answer_part") if question else ("answer_part", "question_part")
        yield _problem(
            here,
            f"{here} is set and {missing} is not: only together do they mark where a turn begins and ends",
            "Set both, or neither to read them off the chat template",
        )
    if own.get("train_on_responses_only") is False:
        for key in ("question_part", "answer_part"):
            if _is_on(own, key):
                yield _no_effect(key, "train_on_responses_only is false")


def _without_adapter(own: Mapping[str, Any]) -> Iterator[Problem]:
    if own.get("full_finetuning") is True:
        for key in LoraSettings.model_fields:
            if key != "loftq_config" and key in own:
                yield _no_effect(key, "full_finetuning is true and there is no adapter")


def _without_validation(own: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[Problem]:
    if _is_on(own, "validation_data_id"):
        return
    why = "there is no validation_data_id"
    if "device_validation_batch_size" in own:
        yield _no_effect("device_validation_batch_size", why)
    if run.get("sample_answers"):
        yield _no_effect("sample_answers", why, section="run")


def _push(own: Mapping[str, Any], stages: Mapping[str, Any]) -> Iterator[Problem]:
    savers = stages.get("savers")
    if own.get("push_to_hub") is True and isinstance(savers, list) and "hub" not in savers:
        yield _problem(
            "push_to_hub",
            "push_to_hub is true and [stages] savers does not name hub: nothing would be pushed",
            'Add "hub" to savers, or remove push_to_hub',
        )
    if own.get("push_to_hub") is False and isinstance(savers, list) and "hub" in savers:
        yield _problem(
            "push_to_hub", "push_to_hub is false and [stages] savers names hub, which pushes", "Remove one of them"
        )


def _is_on(own: Mapping[str, Any], key: str) -> bool:
    return own.get(key) not in (None, False)


def _problem(key: str, message: str, fix: str) -> Problem:
    return Problem(f"fine_tuner.{key}", message, fix)


def _no_effect(key: str, why: str, section: str = "fine_tuner") -> Problem:
    return Problem(f"{section}.{key}", f"{key} has no effect: {why}", "Remove it", severity="warning")
