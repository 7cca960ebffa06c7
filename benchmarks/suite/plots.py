"""The plots of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from suite.numbers import Result, cases, contestants, values


def _plot_training(axes: Any, result: Result) -> None:
    samples = result["samples"]
    forms = cases(samples, "packing", "checkpointing")
    names = contestants(samples)
    for index, name in enumerate(names):
        found = [list(values(samples, "tokens_per_second", contestant=name, **form).values()) for form in forms]
        _bars(axes, found, index, len(names), name)
    labels = [
        f"{'packed' if form['packing'] else 'padded'}{', checkpointing' if form['checkpointing'] else ''}"
        for form in forms
    ]
    axes.set_xticks(range(len(forms)), labels)
    axes.set_ylabel("tokens per second")


def _plot_preparation(axes: Any, result: Result) -> None:
    samples = result["samples"]
    forms = cases(samples, "processes", "cache")
    names = contestants(samples)
    for index, name in enumerate(names):
        found = [list(values(samples, "seconds", contestant=name, **form).values()) for form in forms]
        _bars(axes, found, index, len(names), name)
    axes.set_xticks(range(len(forms)), [f"{form['processes']} proc., {form['cache']}" for form in forms])
    axes.set_ylabel("seconds")


def _plot_scaling(axes: Any, result: Result) -> None:
    samples = result["samples"]
    sizes = list(dict.fromkeys(sample["rows"] for sample in samples))
    for measure, label in (("microseconds_per_row", "µs per row"), ("peak_mib", "peak MiB")):
        axes.plot(sizes, [median(values(samples, measure, rows=rows).values()) for rows in sizes], "o-", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rows")


def _bars(axes: Any, groups: Sequence[Sequence[float]], index: int, count: int, label: str) -> None:
    """One contestant's bar in each group, with the range over the rounds."""
    width = 0.8 / count
    middles = [median(group) if group else 0.0 for group in groups]
    below = [middle - min(group, default=0.0) for middle, group in zip(middles, groups, strict=True)]
    above = [max(group, default=0.0) - middle for middle, group in zip(middles, groups, strict=True)]
    places = [group + (index - (count - 1) / 2) * width for group in range(len(groups))]
    axes.bar(places, middles, width, yerr=[below, above], label=label, capsize=2)


PLOTS: dict[str, Callable[[Any, Result], None]] = {
    "training": _plot_training,
    "preparation": _plot_preparation,
    "scaling": _plot_scaling,
}


def plot(item: str, result: Result, path: Path) -> None:
    """Draw an item as SVG; the same samples give the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ftcore"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    PLOTS[item](axes, result)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
