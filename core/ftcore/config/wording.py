"""What pydantic finds wrong, as problems that a user can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ftcore import extras
from ftcore.errors import Problem
from ftcore.plugins import Plugins
from ftcore.settings.base import Section
from ftcore.text import LONGEST, short, shown

_FEW = 12

_ELSEWHERE = {
    "r": "rank",
    "lora_r": "rank",
    "lora_rank": "rank",
    "alpha": "lora_alpha",
    "lora_target_modules": "target_modules",
    "model": "base_model_id",
    "model_name": "base_model_id",
    "model_name_or_path": "base_model_id",
    "base_model": "base_model_id",
    "dataset": "training_data_id",
    "dataset_name": "training_data_id",
    "eval_dataset": "validation_data_id",
    "max_seq_length": "max_sequence_length",
    "max_length": "max_sequence_length",
    "cutoff_len": "max_sequence_length",
    "sequence_len": "max_sequence_length",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "lr": "learning_rate",
    "micro_batch_size": "device_train_batch_size",
    "per_device_train_batch_size": "device_train_batch_size",
    "per_device_eval_batch_size": "device_validation_batch_size",
    "gradient_accumulation_steps": "grad_accumulation",
    "gradient_checkpointing": "use_gradient_checkpointing",
    "flash_attention": "use_flash_attention",
    "lr_scheduler": "lr_scheduler_type",
    "optim": "optimizer",
    "logging_steps": "log_steps",
    "logging_first_step": "log_first_step",
    "torch_dtype": "dtype",
    "sample_packing": "packing",
    "train_on_inputs": "train_on_responses_only",
    "hub_model_id": "push_to_hub",
}
"""What other fine-tuners call the keys of `[fine_tuner]`."""


def problems(
    section: str, table: Mapping[str, Any], models: Mapping[str, type[Section]], error: ValidationError
) -> Iterator[Problem]:
    """One problem for each key that pydantic refused.

    Args:
        section: the section's name.
        table: its values.
        models: all known sections, for keys that belong elsewhere.
        error: what its model raised.
    """
    by_path: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_path.setdefault(_path(details, table), []).append(details)
    for path, group in by_path.items():
        where, kind = ".".join((section, *path)), group[0]["type"]
        holder = f"[{section}]" if len(path) < 2 else ".".join((section, *path[:-1]))
        if not path:
            yield Problem(where, f"[{section}] is not allowed: {_wanted(group)}")
        elif kind == "missing":
            yield Problem(where, f"{holder} has no {path[-1]}, which is required", f'Add {path[-1]} = "…"')
        elif kind != "extra_forbidden":
            yield Problem(where, f"{where} = {shown(_value(path, table))} is not allowed: {_wanted(group)}")
        elif len(path) > 1:
            yield Problem(where, f"{holder} has no key '{short(path[-1])}'")
        else:
            yield _unknown_key(where, section, path[0], table.get(path[0]), models)


def _path(details: ErrorDetails, table: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that lead to a value; pydantic also names list items and the members of a union in between."""
    path: list[str] = []
    value: Any = table
    absent = details["loc"][-1] if details["type"] == "missing" else None
    for part in details["loc"]:
        if isinstance(value, Mapping) and isinstance(part, str) and (part in value or part == absent):
            path.append(part)
            value = value.get(part)
    return tuple(path)


def _value(path: Sequence[str], table: Mapping[str, Any]) -> Any:
    value: Any = table
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


_OF_ANOTHER_TYPE = ("_type", "literal_error", "enum", "int_from_float")


def _wanted(group: Sequence[ErrorDetails]) -> str:
    # A union reports errors for each of its members. Where the value has the type of one, that member's errors say what
    # is wrong; else they say together what is allowed.
    nearest = [details for details in group if _at(details) or not details["type"].endswith(_OF_ANOTHER_TYPE)] or group
    own_words = [_own_words(details) for details in nearest if details["type"] in ("value_error", "assertion_error")]
    if own_words:
        return " and ".join(own_words)
    rules = dict.fromkeys(rule + _at(details) for details in nearest for rule in _rules(details))
    if "a number" in rules:
        rules.pop("an integer", None)
    return "it must not be empty" if [*rules] == ["not empty"] else "it must be " + _either([*rules])


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _at(details: ErrorDetails) -> str:
    inside = [part for part in details["loc"][1:] if isinstance(part, int)]
    return f" (item {inside[0] + 1})" if inside else ""


def _own_words(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:] + _at(details)


def _rules(details: ErrorDetails) -> list[str]:
    """What a value must be, to stand behind "it must be"."""
    context: Mapping[str, Any] = details.get("ctx", {})
    match details["type"]:
        case "int_type" | "int_parsing" | "int_from_float":
            return ["an integer"]
        case "float_type" | "float_parsing":
            return ["a number"]
        case "finite_number":
            return ["a finite number"]
        case "bool_type" | "bool_parsing":
            return ["true", "false"]
        case "string_type":
            return ["a text in quotes"]
        case "list_type" | "tuple_type" | "set_type":
            return ["a list"]
        case "dict_type" | "model_type" | "dataclass_type":
            return ["a table"]
        case "literal_error" | "enum":
            return str(context["expected"]).replace("'", '"').replace(" or ", ", ").split(", ")
        case "greater_than":
            return [f"more than {_number(context['gt'])}"]
        case "greater_than_equal":
            return [f"at least {_number(context['ge'])}"]
        case "less_than":
            return [f"less than {_number(context['lt'])}"]
        case "less_than_equal":
            return [f"at most {_number(context['le'])}"]
        case "string_too_short" | "too_short" if context["min_length"] == 1:
            return ["not empty"]
        case "string_too_short":
            return [f"at least {context['min_length']} characters long"]
        case "string_too_long":
            return [f"at most {context['max_length']} characters long"]
        case "too_short":
            return [f"a list of at least {context['min_length']} items"]
        case "too_long":
            return [f"a list of at most {context['max_length']} items"]
    return [f"otherwise ({_own_words(details)})"]


def _number(value: Any) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _unknown_key(where: str, section: str, key: str, value: Any, models: Mapping[str, type[Section]]) -> Problem:
    own = models[section].model_fields
    homes = [name for name, model in models.items() if key in model.model_fields]
    outer, dot, inner = key.partition(".")
    if dot and outer in own:  # only --set can give such a key
        fix = f"Give the whole table: --set '{section}.{outer}={{ {inner} = … }}'"
    elif isinstance(value, dict):
        fix = f"There are no sections inside [{section}]: its keys stand directly under it"
    elif section == "fine_tuner" and key in _ELSEWHERE:
        fix = f"It is called {_ELSEWHERE[key]} here"
    elif homes:
        fix = f"It belongs under {' or '.join(f'[{name}]' for name in homes)}"
    elif close := get_close_matches(key[:LONGEST], own, n=1, cutoff=0.6):
        fix = f"Did you mean {close[0]}?"
    elif len(own) <= _FEW:
        fix = f"Keys of [{section}]: {', '.join(own) or 'none'}"
    else:
        fix = "`ftcore schema` lists the keys"
    return Problem(where, f"[{section}] has no key '{short(key)}'", fix)


def unknown_section(name: str, models: Mapping[str, type[Section]], plugins: Plugins) -> Problem:
    """A section that nobody reads: its plugin is not there, cannot be used, or has no settings."""
    record = plugins.get(name)
    if record is not None:
        problem = f"the section [{name}] cannot be used: {record} "
        if record.state == "ok":
            return Problem(name, f"{problem}has no settings", "Remove the section")
        return Problem(name, f"{problem}is {record.state}: {record.reason}", f"{record.remedy}, or remove the section")
    message = f"the section [{short(name)}] belongs to nothing that is installed"
    if command := extras.install_command(name):
        fix = f"Type {command}, or remove the section"
    elif close := get_close_matches(name[:LONGEST], models, n=1, cutoff=0.6):
        fix = f"Did you mean [{close[0]}]?"
    else:
        fix = "Install the plugin of that name, or remove the section"
    return Problem(name, message, fix)
