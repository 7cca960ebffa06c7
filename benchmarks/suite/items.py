"""What is measured: one function for each question, each a list of samples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contestants.job import Job

from suite.children import measure
from suite.contests import TRAINERS, Sample, Scale, contest, rounds, scratch
from suite.workload import gsm8k_rows, synthetic_rows, write_rows

Say = Callable[[str], None]


def training(scale: Scale, data: Path, say: Say) -> list[Sample]:
    """Tokens per second in training steps, the first step left out, and the peak memory of the whole process."""
    cases = [{"packing": packing, "checkpointing": checkpointing} for packing, checkpointing in scale.forms]
    return rounds(scale.rounds, cases, TRAINERS, _training(scale, data), say)


def rounding(scale: Scale, data: Path, say: Say) -> list[Sample]:
    """The same, of an adapter's forward that rounds once and of the one that its library has."""
    return rounds(
        scale.rounds, [{"packing": False, "checkpointing": False}], scale.forwards, _training(scale, data), say
    )


def _training(scale: Scale, data: Path) -> Callable[..., Iterator[Sample]]:
    rows = write_rows(data / "training.jsonl", gsm8k_rows(scale.training_rows))

    def once(name: str, packing: bool, checkpointing: bool) -> Iterator[Sample]:
        job = Job("train", str(scale.model), str(rows), scale.max_length, packing=packing, checkpointing=checkpointing)
        with scratch() as folder:
            seen, report = contest(name, job, folder, scale.threads)
        ends, tokens = report["step_ends"], report["step_tokens"]
        seconds = ends[-1] - ends[0]
        yield {
            "tokens_per_second": sum(tokens[1:]) / seconds,
            "seconds_per_step": seconds / (len(ends) - 1),
            "steps": len(ends),
            "tokens": sum(tokens),
            "peak_mib": seen.peak_mib,
            "last_loss": report["losses"][-1],
        }

    return once


def preparation(scale: Scale, data: Path, say: Say) -> list[Sample]:
    """Rows to tokens and labels, twice with the same caches; imports and the reading of the file are not counted."""
    rows = write_rows(data / "preparation.jsonl", gsm8k_rows(scale.preparation_rows))

    def once(name: str, processes: int) -> Iterator[Sample]:
        job = Job("prepare", str(scale.model), str(rows), scale.max_length, processes=processes)
        with scratch() as folder:
            for cache in ("cold", "again"):
                seen, report = contest(name, job, folder, scale.threads)
                yield {
                    "cache": cache,
                    "seconds": report["prepare_seconds"],
                    "rows": report["rows"],
                    "peak_mib": seen.peak_mib,
                }

    names = ("ftcore (transformers)", "unsloth script", "TRL script", "floor")
    return rounds(scale.rounds, [{"processes": count} for count in scale.processes], names, once, say)


def command(scale: Scale, data: Path, say: Say) -> list[Sample]:
    """A whole command, from its start to the saved adapter, on an empty cache and again; and when its first step began."""
    rows = write_rows(data / "command.jsonl", gsm8k_rows(scale.command_rows))

    def once(name: str) -> Iterator[Sample]:
        job = Job("train", str(scale.model), str(rows), scale.max_length)
        with scratch() as folder:
            for cache in ("first", "second"):
                seen, report = contest(name, job, folder, scale.threads)
                yield {
                    "run": cache,
                    "seconds": seen.seconds,
                    "seconds_to_first_step": report["first_step_at"] - seen.started_at,
                    "peak_mib": seen.peak_mib,
                }

    return rounds(scale.rounds, [{}], scale.commands, once, say)


def startup(scale: Scale, data: Path, say: Say) -> list[Sample]:
    """What a user waits for before anything is computed: help, a check, and the imports under them."""
    rows = write_rows(data / "training.jsonl", gsm8k_rows(8))
    config = data / "check.toml"
    config.write_text(
        f'[fine_tuner]\nbase_model_id = "{scale.model}"\ntraining_data_id = "{rows}"\nload_in_4bit = false\n',
        encoding="utf-8",
    )
    commands = {
        "import click, pluggy, pydantic": ["-c", "import click, pluggy, pydantic"],
        "ftcore --help": ["-m", "ftcore", "--help"],
        "ftcore check": ["-m", "ftcore", "check", str(config)],
        "trl --help": ["-c", "import sys; sys.argv = ['trl', '--help']; from trl.cli import main; main()"],
        "unsloth --help": ["-c", "import sys; sys.argv = ['unsloth', '--help']; from unsloth_cli import app; app()"],
        "import SFTTrainer": ["-c", "from trl import SFTTrainer"],
        "import FastLanguageModel": ["-c", "from unsloth import FastLanguageModel"],
    }

    def once(name: str) -> Iterator[Sample]:
        with scratch() as folder:
            seen = measure([sys.executable, *commands[name]], folder, scale.threads)
        yield {"seconds": seen.seconds, "peak_mib": seen.peak_mib}

    return rounds(max(scale.rounds, 5) if scale.rounds > 1 else 1, [{}], commands, once, say)


def scaling(scale: Scale, data: Path, say: Say) -> list[Sample]:
    """ftcore's preparation of ever more rows."""

    def once(name: str, rows: int) -> Iterator[Sample]:
        path = write_rows(data / f"synthetic-{rows}.jsonl", synthetic_rows(rows))
        job = Job("prepare", str(scale.model), str(path), scale.max_length, processes=2)
        with scratch() as folder:
            seen, report = contest(name, job, folder, scale.threads)
        yield {
            "load_seconds": report["load_seconds"],
            "seconds": report["prepare_seconds"],
            "microseconds_per_row": 1e6 * report["prepare_seconds"] / rows,
            "peak_mib": seen.peak_mib,
            "peak_own_mib": report["peak_own_mib"],
        }

    cases: list[dict[str, Any]] = [{"rows": rows} for rows in scale.scaling_rows]
    return rounds(scale.rounds, cases, ["ftcore (transformers)"], once, say)


ITEMS: dict[str, Callable[[Scale, Path, Say], list[Sample]]] = {
    "training": training,
    "rounding": rounding,
    "preparation": preparation,
    "command": command,
    "startup": startup,
    "scaling": scaling,
}
