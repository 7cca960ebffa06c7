"""A configuration to begin with: a preset for the machine, the columns of the data, and what each key is for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ftcore import locators
from ftcore.config import Config
from ftcore.contracts import DataRequest, DataView
from ftcore.errors import DataError, FormatMismatch, PluginError
from ftcore.estimate.presets import Preset
from ftcore.plugins import Plugins, selection
from ftcore.settings.audit import AuditSettings
from ftcore.settings.data import DataSettings
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.run import RunSettings
from ftcore.settings.stages import StageSettings

_QUESTIONS = ("question", "instruction", "prompt", "query", "input", "user", "problem", "source", "text")
_ANSWERS = ("answer", "output", "response", "completion", "reply", "assistant", "solution", "target", "label")
"""What columns are often called, the likeliest first."""

_SAMPLE_ROWS = 8


@dataclass(frozen=True)
class Columns:
    """What the data's columns call for.

    Attributes:
        names: all of them.
        question, answer, system: the columns to name in the configuration; None where the formatter knows them itself.
        formatter: who reads them; "" where nobody does.
        why: the formatter's reason, or why there is none.
        example: the first row.
    """

    names: Sequence[str]
    question: str | None
    answer: str | None
    system: str | None
    formatter: str
    why: str
    example: Mapping[str, Any]


def look(data: str, plugins: Plugins) -> Columns:
    """Load a dataset and find out who formats it, with which columns.

    Raises:
        PluginError: the plugin of the id is missing or broken.
        DataError: the data cannot be read.
    """
    name, _ = selection.data_plugin(data, Path.cwd())
    plugins.require("data", name, "--data")
    section = plugins.sections.get(name)
    try:
        settings = section() if section else None
    except ValueError as error:
        raise PluginError(f"the data source '{name}' needs settings of its own", fix="Leave out --data") from error
    rows = plugins.call(
        "ftcore_load_dataset",
        name,
        request=DataRequest(locators.parse(data), "training", 1, 42, Path.cwd()),
        settings=settings,
    )
    if not len(rows):
        raise DataError(f'the data "{data}" have no rows', fix="Check the file")
    names = list(rows.column_names)
    sample = [rows[number] for number in range(min(_SAMPLE_ROWS, len(rows)))]
    return _columns(names, sample, data, plugins)


def _columns(names: list[str], sample: list[Any], data: str, plugins: Plugins) -> Columns:
    question, answer = _first(_QUESTIONS, names), _first(_ANSWERS, names)
    attempts: list[dict[str, str]] = [{}]
    if question and answer and question != answer:
        attempts.append({"question_column": question, "ground_truth_column": answer})
    why = ""
    for attempt in attempts:
        config = _config(data, attempt)
        view = DataView(names, config.fine_tuner.view(DataSettings), sample)
        try:
            choice = selection.formatter_for(config, plugins, view)
        except FormatMismatch as error:
            why = why or " ".join(error.what.split())  # a column's name may have line ends
            continue
        system = _first(("system_prompt", "system_message"), names) if "system" not in names else None
        return Columns(
            names, attempt.get("question_column"), attempt.get("ground_truth_column"), system,
            choice.plugin, choice.why.removeprefix("auto: "), sample[0],
        )  # fmt: skip
    return Columns(names, None, None, None, "", why, sample[0])


def _first(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in names}
    return next((lowered[name] for name in candidates if name in lowered), None)


def _config(data: str, keys: Mapping[str, str]) -> Config:
    return Config(
        path=Path("config.toml"),
        fine_tuner=FineTunerSettings(base_model_id="user/model", training_data_id=data, **keys),  # type: ignore[arg-type]
        stages=StageSettings(),
        run=RunSettings(),
        audit=AuditSettings(),
    )


def text(file: str, preset: Preset, model: str | None, data: str | None, columns: Columns | None) -> str:
    """The configuration.

    Args:
        file: where it will stand, for the commands at its head.
        preset: for the machine.
        model: instead of the preset's.
        data: the training data's id; None leaves a placeholder.
        columns: what was found in the data, if they were looked at.
    """
    name = model or preset.base_model_id
    lines = [
        f"# ftcore: {'a machine without a GPU' if not preset.gib else f'a GPU with {preset.gib} GiB or more'}.",
        f"#   ftcore check {file}       find mistakes",
        f"#   ftcore estimate {file}    how much memory it takes",
        f"#   ftcore run {file}         train",
        f"#   ftcore schema --install {file}    complete and check it in your editor",
        "# Every key that is left out has a default; docs/configuration.md lists them all.",
        "",
        "[fine_tuner]",
        "# The model: a Hugging Face id, a local folder, a GGUF file, or prefix:id for a plugin.",
        _line("base_model_id", name),
    ]
    lines += _precision(preset, name)
    lines += ["", *_data(data, columns), "", *_adapter(preset), "", *_training(preset)]
    lines += [
        "",
        "# Trackers: mlflow, wandb, tensorboard, a list of them, or none. The console and metrics.jsonl are always written.",
        _line("report_to", "none"),
        _line("log_steps", 10),
        _line("save_steps", 100),
        "",
        "[run]",
        "# Where the run directories go; without a name, a run is named after the time of its start.",
        _line("output_dir", "runs"),
        "# name = \"0.0.1\"",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _precision(preset: Preset, name: str) -> list[str]:
    if not preset.gib:
        return [_line("load_in_4bit", False) + " # 4-bit weights need a GPU to pay"]
    stored = " (this checkpoint is stored so)" if name.endswith("-bnb-4bit") else ""
    return [_line("load_in_4bit", True) + f" # the frozen weights in 4 bits{stored}"]


def _data(data: str | None, columns: Columns | None) -> list[str]:
    lines = ["# The training data: a file, a folder, or a Hugging Face dataset id."]
    if data is None:
        return [
            *lines,
            _line("training_data_id", "train.jsonl") + " # put yours here: columns question and answer, or messages",
            '# validation_data_id = "validation.jsonl" # evaluated before, during and after training',
        ]
    lines += [_line("training_data_id", data)]
    lines += ['# validation_data_id = "validation.jsonl" # evaluated before, during and after training']
    if columns is None:
        return lines
    listed = ", ".join(_printable(name) for name in columns.names)
    lines += [f"# Its columns: {listed}."]
    if not columns.formatter:
        lines += [
            "# No formatter reads these columns as they are. Name the two that hold question and answer:",
            '# question_column = "…"',
            '# ground_truth_column = "…"',
        ]
        return lines
    lines += [f"# They are read by the formatter {columns.formatter}: {_printable(columns.why)}."]
    if columns.question and columns.answer:
        lines += [_line("question_column", columns.question), _line("ground_truth_column", columns.answer)]
    if columns.system:
        lines += [_line("system_prompt_column", columns.system)]
    return lines


def _adapter(preset: Preset) -> list[str]:
    return [
        "# The LoRA adapter: more rank is more trained parameters; the update is scaled by lora_alpha / rank.",
        _line("rank", preset.rank),
        _line("lora_alpha", preset.rank),
        _line("lora_dropout", 0.0 if not preset.gib else 0.1),
    ]


def _training(preset: Preset) -> list[str]:
    step = preset.device_train_batch_size * preset.grad_accumulation
    lines = [
        "# Longer examples are cut, and the run says how many; memory grows with this and the batch size.",
        _line("max_sequence_length", preset.max_sequence_length),
        _line("device_train_batch_size", preset.device_train_batch_size),
        _line("grad_accumulation", preset.grad_accumulation) + f" # {step} examples for each optimizer step",
    ]
    if preset.gib:
        lines += [
            _line("use_gradient_checkpointing", "unsloth") + " # compute activations twice instead of keeping them",
            _line("optimizer", "paged_adamw_8bit") + " # its states in 8 bits, paged out when memory runs short",
        ]
    else:
        lines += [
            _line("use_gradient_checkpointing", False) + " # it would save memory and cost time",
            _line("optimizer", "adamw_torch") + " # the default is an 8-bit one for GPUs",
        ]
    return [*lines, _line("epochs", 3), _line("learning_rate", 0.0002), _line("seed", 42)]


def _line(key: str, value: Any) -> str:
    return tomli_w.dumps({key: value}).strip()


def _printable(name: str) -> str:
    """A text that a comment can hold: without line ends and control characters."""
    return "".join(char if char.isprintable() else "�" for char in name)


def relative_to(folder: Path, data: str) -> str:
    """The data's id as a configuration in a folder names it; only paths that exist are changed."""
    locator = locators.parse(data)
    if locators.split_prefix(data)[0] or not Path(locator.path).exists() or folder.resolve() == Path.cwd().resolve():
        return data
    moved = os.path.relpath(Path(locator.path).resolve(), folder.resolve())
    return moved + data[len(locator.path) :]
