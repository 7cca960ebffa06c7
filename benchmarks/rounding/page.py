"""The tables and plots of docs/rounding.md, from the cells that were measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, PLOTS = ROOT / "docs" / "rounding.md", ROOT / "docs" / "plots"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"

Known = dict[str, Any]

NAMES = {
    "base": "the model without it",
    "fp32": "float32: what was learned",
    "peft": "bfloat16, as PEFT computes it",
    "once": "bfloat16, rounded once",
    "nearest": "merged, rounded to the nearest",
    "stochastic": "merged, rounded stochastically",
}
_LOSSY = ("peft", "once", "nearest", "stochastic")
_STYLES = {"peft": ("C3", "o-"), "once": ("C0", "o-"), "nearest": ("C1", "s--"), "stochastic": ("C2", "s--")}


def kept(losses: Known, form: str) -> float:
    """The share of the gain over the model without the adapter, in percent."""
    return float(100 * (losses["base"] - losses[form]) / (losses["base"] - losses["fp32"]))


def write_page(results: Path, page: Path = PAGE, plots: Path = PLOTS) -> Path:
    """Put tables and plots of the results into the page, between its marks."""
    known: Known = json.loads(results.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"{page} has no place between {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{measured(known)}\n\n{END}{after}", encoding="utf-8")
    for name, draw in (("rounding-kept", _draw_kept), ("rounding-course", _draw_course)):
        _plot(known, draw, plots / f"{name}.svg")
    return page


def measured(known: Known) -> str:
    """The measured part of the page, as Markdown."""
    parts = [_where(known)]
    for model, about in known["models"].items():
        cells = [cell for cell in known.get("cells", ()) if cell["model"] == model]
        if not cells:
            continue
        parts += [f"### {model}", about] if about else [f"### {model}"]
        parts += ["Share of the adapter's gain that is kept:", _kept_table(cells)]
        parts += ["The losses behind it:", _loss_table(cells)]
        course = [one for one in known.get("course", ()) if one["model"] == model]
        if course:
            first = course[0]
            parts += [
                f"In the course of training (rank {first['rank']}, learning rate {first['lr']:g}):",
                _course_table(course),
            ]
    parts.append(_deviation(known))
    return "\n\n".join(parts)


def _where(known: Known) -> str:
    facts, versions = known["machine"], known["versions"]
    seeds = len({cell["seed"] for cell in known["cells"]})
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions)
    return (
        f"*{known['date']}; {facts['processor']} ({', '.join(facts['features'])}), {shown}. 20 steps with batches of 4, 40 "
        f"held-out rows of GSM8K, median over {seeds} seed{'s' if seeds > 1 else ''} with its range.*"
    )


def _kept_table(cells: Sequence[Known]) -> str:
    rows = []
    for (rank, lr), group in _grouped(cells).items():
        gains = [cell["losses"]["base"] - cell["losses"]["fp32"] for cell in group]
        shares = [[kept(cell["losses"], form) for cell in group] for form in _LOSSY]
        rows.append([str(rank), f"{lr:g}", _spread(gains, ".4f"), *(f"{_spread(share, '.0f')} %" for share in shares)])
    return _table(["rank", "learning rate", "gain, nats", *(NAMES[form] for form in _LOSSY)], rows)


def _loss_table(cells: Sequence[Known]) -> str:
    rows = []
    for (rank, lr), group in _grouped(cells).items():
        losses = (median(cell["losses"][form] for cell in group) for form in NAMES)
        rows.append([str(rank), f"{lr:g}", *(f"{loss:.4f}" for loss in losses)])
    return _table(["rank", "learning rate", *NAMES.values()], rows)


def _course_table(course: Sequence[Known]) -> str:
    forms = ("fp32", "peft", "once")
    steps = list(course[0]["steps"])
    rows = [[step, *(_spread([one["steps"][step][form] for one in course], ".4f") for form in forms)] for step in steps]
    return _table(["steps", *(NAMES[form] for form in forms)], rows)


def _deviation(known: Known) -> str:
    """How far the loss in each form is from the one in float32, at most."""
    far = {form: max(abs(cell["losses"][form] - cell["losses"]["fp32"]) for cell in known["cells"]) for form in _LOSSY}
    said = "; ".join(f"{NAMES[form]} {far[form]:.4f}" for form in _LOSSY)
    return f"The largest difference from the loss in float32, over all {len(known['cells'])} adapters: {said}."


def _grouped(cells: Iterable[Known]) -> dict[tuple[int, float], list[Known]]:
    found: dict[tuple[int, float], list[Known]] = {}
    for cell in sorted(cells, key=lambda cell: (cell["rank"], cell["lr"], cell["seed"])):
        found.setdefault((cell["rank"], cell["lr"]), []).append(cell)
    return found


def _spread(numbers: Sequence[float], form: str) -> str:
    middle, low, high = (format(number, form) for number in (median(numbers), min(numbers), max(numbers)))
    return middle if len(numbers) == 1 else f"{middle} ({low} to {high})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["--:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plot(known: Known, draw: Callable[[Any, Known], None], path: Path) -> None:
    """Draw as SVG; the same results give the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ftcore"
    from matplotlib import pyplot as plt

    models = [name for name in known["models"] if any(cell["model"] == name for cell in known["cells"])]
    figure, axes = plt.subplots(1, len(models), figsize=(4.5 * len(models), 3.6), layout="constrained", squeeze=False)
    for one, model in zip(axes[0], models, strict=True):
        draw(one, {**known, "model": model})
        one.set_title(model, fontsize="medium")
        one.spines[["top", "right"]].set_visible(False)
    if axes[0][0].get_legend_handles_labels()[0]:
        axes[0][0].legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw_kept(axes: Any, known: Known) -> None:
    cells = [cell for cell in known["cells"] if cell["model"] == known["model"]]
    rank = min(cell["rank"] for cell in cells)
    groups = {lr: group for (of, lr), group in _grouped(cells).items() if of == rank}
    for form in _LOSSY:
        shares = [[kept(cell["losses"], form) for cell in group] for group in groups.values()]
        middles = [median(share) for share in shares]
        around = [
            [middle - min(share) for middle, share in zip(middles, shares, strict=True)],
            [max(share) - middle for middle, share in zip(middles, shares, strict=True)],
        ]
        color, line = _STYLES[form]
        axes.errorbar(
            list(groups), middles, yerr=around, fmt=line, color=color, label=NAMES[form], capsize=2, markersize=4
        )
    axes.set_xscale("log")
    axes.set_ylim(0, 120)
    axes.set_xlabel(f"learning rate (20 steps, rank {rank})")
    axes.set_ylabel("gain kept, %")


def _draw_course(axes: Any, known: Known) -> None:
    course = [one for one in known.get("course", ()) if one["model"] == known["model"]]
    if not course:
        return
    steps = list(course[0]["steps"])
    for form in ("peft", "once"):
        color, line = _STYLES[form]
        far = [median(one["steps"][step][form] - one["steps"][step]["fp32"] for one in course) for step in steps]
        axes.plot([int(step) for step in steps], far, line, color=color, label=NAMES[form], markersize=4)
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set_xlabel(f"steps (learning rate {course[0]['lr']:g}, rank {course[0]['rank']})")
    axes.set_ylabel("loss beyond that in float32, nats")
