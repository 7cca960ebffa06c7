"""Writes docs/benchmarks.md and its plots from the samples in results/.

python benchmarks/report.py             write them
python benchmarks/report.py --check     exit with 1 where the page is not what the samples say
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from suite.numbers import Result, Sample, cases, contestants, ratios, spread, values
from suite.plots import PLOTS, plot

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

_BASELINES = ("unsloth script", "TRL script")

# Tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column text and the others numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(samples: Sequence[Sample], measure: str, unit: str, form: str, **case: Any) -> str:
    """Contestants, their measure, and its ratio to each script's."""
    names = contestants(samples)
    baselines = [name for name in _BASELINES if name in names]
    return table(
        ["", unit, *(f"÷ {name}" for name in baselines)],
        (
            [
                name,
                spread(values(samples, measure, contestant=name, **case).values(), form),
                *("1" if name == base else spread(ratios(samples, measure, name, base, **case)) for base in baselines),
            ]
            for name in names
        ),
    )


def _training(result: Result) -> str:
    samples = result["samples"]
    parts = [
        "SmolLM2-135M in bfloat16, LoRA of rank 16 on seven projections, 32 GSM8K rows, batches of 4, no dropout. "
        "Steps only, the first left out; tokens without padding. Unsloth's script asks for packing as the others do, and takes "
        "as many steps as without: here, unsloth does not pack."
    ]
    for case in cases(samples, "packing", "checkpointing"):
        packed = "Packed" if case["packing"] else "Not packed"
        parts += [
            f"### {packed}, {'with' if case['checkpointing'] else 'no'} gradient checkpointing",
            "Tokens per second (more is better):",
            compared(samples, "tokens_per_second", "tokens/s", ".0f", **case),
            "Peak memory of the process (less is better):",
            compared(samples, "peak_mib", "MiB", ".0f", **case),
        ]
    return "\n\n".join(parts)


def _rounding(result: Result) -> str:
    samples = result["samples"]
    pairs = [
        (name, other)
        for name in contestants(samples)
        for other in contestants(samples)
        if other.startswith(f"{name}, ")
    ]
    parts = [
        "An adapter's output added before anything is rounded ([why](rounding.md)), and added as PEFT and unsloth do it "
        "(`round_once = false`). Not packed, no gradient checkpointing; else as above.",
        "Tokens per second (more is better):",
        compared(samples, "tokens_per_second", "tokens/s", ".0f"),
        "Peak memory of the process (less is better):",
        compared(samples, "peak_mib", "MiB", ".0f"),
        "Rounded once against its library's forward:",
        table(
            ["", "tokens/s", "memory"],
            (
                [
                    name,
                    *(spread(ratios(samples, measure, name, other)) for measure in ("tokens_per_second", "peak_mib")),
                ]
                for name, other in pairs
            ),
        ),
    ]
    return "\n\n".join(parts)


def _preparation(result: Result) -> str:
    samples = result["samples"]
    rows = max(sample["rows"] for sample in samples)
    parts = [
        f"{rows:,} GSM8K rows to tokens and labels, in seconds (less is better). Imports and reading the file are not "
        "counted. The floor renders, encodes and labels in one pass, knows the rows' shape and checks nothing."
    ]
    caches = {"cold": "empty caches", "again": "caches of the run before"}
    for case in cases(samples, "processes", "cache"):
        head = f"### {case['processes']} process{'es' * (case['processes'] > 1)}, {caches[case['cache']]}"
        over = ratios(samples, "seconds", "ftcore (transformers)", "floor", **case)
        parts += [head, compared(samples, "seconds", "s", ".2f", **case), f"ftcore ÷ floor: {spread(over)}."]
    return "\n\n".join(parts)


def _command(result: Result) -> str:
    samples = result["samples"]
    parts = [
        "From the command's start to the saved adapter on 64 rows, and to the first step (less is better). Before its first "
        "step ftcore looks at all rows, and tries the longest batch, forward and backward, which takes as long as two to "
        "three steps; `[run] dry_step = false` leaves that out. The scripts do neither."
    ]
    for run in ("first", "second"):
        parts += [
            f"### {run.capitalize()} run",
            compared(samples, "seconds", "s in all", ".1f", run=run),
            compared(samples, "seconds_to_first_step", "s to the first step", ".1f", run=run),
            compared(samples, "peak_mib", "MiB at the peak", ".0f", run=run),
        ]
    return "\n\n".join(parts)


def _startup(result: Result) -> str:
    samples, base = result["samples"], "import click, pluggy, pydantic"
    return table(
        ["", "s", f"÷ {base}"],
        (
            [
                f"`{name}`",
                spread(values(samples, "seconds", contestant=name).values(), ".3f"),
                "1" if name == base else spread(ratios(samples, "seconds", name, base)),
            ]
            for name in contestants(samples)
        ),
    )


def _scaling(result: Result) -> str:
    samples = result["samples"]
    sizes = list(dict.fromkeys(sample["rows"] for sample in samples))
    measures = (
        ("load_seconds", ".2f"),
        ("seconds", ".2f"),
        ("microseconds_per_row", ".0f"),
        ("peak_own_mib", ".0f"),
        ("peak_mib", ".0f"),
    )
    text = (
        "Synthetic rows, two processes allowed. Of the peak, the process's own memory is told apart: the rest is mapped from "
        "files, and the system takes it back where memory gets short.\n\n"
    )
    return text + table(
        ["rows", "reading, s", "preparing, s", "µs per row", "own MiB", "peak MiB"],
        (
            [f"{rows:,}", *(spread(values(samples, name, rows=rows).values(), form) for name, form in measures)]
            for rows in sizes
        ),
    )


SECTIONS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "training": ("Training", _training),
    "rounding": ("Rounding once", _rounding),
    "preparation": ("Preparing data", _preparation),
    "command": ("The whole command", _command),
    "startup": ("Starting", _startup),
    "scaling": ("More rows", _scaling),
}

_HEAD = """# Benchmarks

ftcore beside the scripts that its users would write otherwise: one with unsloth's `FastLanguageModel`, TRL's
`SFTTrainer` and `train_on_responses_only`, and one with TRL and PEFT; same model, rows and settings. The scripts are in
`benchmarks/contestants/`; what they leave open has its library's default, bfloat16 autocast among it. All supervise the
answers and their end token. TRL's own mask supervises the line break behind it too, and what unsloth's script hands its
trainer ends in one more end-of-text token: one token in about 125.

Each contestant runs in a process of its own, and they take turns, round after round. A number is the median over the
rounds with its range; a ratio is taken within each round first. `make bench` measures all of it again and writes this
page."""


_GPU = """## On a GPU

**These numbers are owed.** `benchmarks/gpu/` compares the same three on a CUDA device, and runs the memory presets under
their sizes. Up to now it has run in its dry mode alone, on a processor, where it measures nothing."""


def page(results: dict[str, Result]) -> str:
    """The text of the page."""
    parts = [_HEAD]
    for item, (title, write) in SECTIONS.items():
        if item in results:
            result = results[item]
            parts += [f"## {title}", _where(result), *([f"*{result['remark']}*"] if "remark" in result else [])]
            if item in PLOTS:
                parts.append(f"![{title}]({_plot_path(item).relative_to(PAGE.parent)})")
            parts.append(write(result))
    parts.append(_GPU)
    return "\n\n".join(parts) + "\n"


def _where(result: Result) -> str:
    facts, versions = result["machine"], result["versions"]
    rounds = len({sample["round"] for sample in result["samples"]})
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"*{result['date']}; {facts['processor']} ({', '.join(facts['features'])}), {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB, {facts['system']}; {result['threads']} threads, {rounds} round{'s' * (rounds > 1)}, load before "
        f"{result['load_before']}. {shown}.*"
    )


def _plot_path(item: str) -> Path:
    return PAGE.parent / "plots" / f"{item}.svg"


def read_results(folder: Path = RESULTS) -> dict[str, Result]:
    """All items of this page that were measured."""
    found = (path for path in sorted(folder.glob("*.json")) if path.stem in SECTIONS)
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}


def write_page() -> Path:
    """Write the page and its plots."""
    results = read_results()
    for item in PLOTS.keys() & results.keys():
        plot(item, results[item], _plot_path(item))
    PAGE.write_text(page(results), encoding="utf-8")
    return PAGE


def main() -> int:
    """The command."""
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page(read_results())
        print(f"{PAGE.name} is {'current' if current else 'not current: run python benchmarks/report.py'}")
        return 0 if current else 1
    print("wrote", write_page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
