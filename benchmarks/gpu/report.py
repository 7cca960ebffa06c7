"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

Entry = Mapping[str, Any]


def render(results: Mapping[str, Any]) -> str:
    """The machine, the comparison, and the memory guide."""
    machine, entries = results["machine"], list(results["cases"].values())
    lines = [f"Measured on {machine['date']} on {machine['gpu'] or 'a processor: these numbers mean nothing'}", ""]
    lines[0] += f" ({machine['matrix_flops'] / 1e12:.1f} TFLOP/s in bfloat16 matrices)."
    lines += [", ".join(f"{name} {found}" for name, found in machine["versions"].items()) + "."]
    lines += ["", *_comparison(machine, [entry for entry in entries if not entry["case"]["preset"]])]
    lines += ["", *_guide([entry for entry in entries if entry["case"]["preset"]])]
    return "\n".join(lines) + "\n"


def short(entry: Entry) -> str:
    """One case in a few words."""
    if "error" in entry:
        return f"FAILED: {entry['error']}"
    return f"{entry['tokens_per_second']:,.0f} tokens/s, {_peak(entry):.2f} GiB"


def _comparison(machine: Entry, entries: Sequence[Entry]) -> Iterator[str]:
    yield "| model | bits | length | rows | packing | checkpointing | runner | tokens/s | of unsloth's | GiB | MFU |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        case = entry["case"]
        key = (case["model"], case["bits"], case["length"], case["rows"], case["packing"], case["checkpointing"])
        groups.setdefault(key, []).append(entry)
    for key, group in groups.items():
        rival = _rates(group, "unsloth")
        for runner in dict.fromkeys(entry["case"]["runner"] for entry in group):
            yield _row(key, runner, group, rival, machine)


def _row(key: tuple[Any, ...], runner: str, group: Sequence[Entry], rival: list[float], machine: Entry) -> str:
    rates = _rates(group, runner)
    cells = [*map(str, key), runner]
    if not rates:
        reason = next(entry.get("error", "") for entry in group if entry["case"]["runner"] == runner)
        return f"| {' | '.join(cells)} | {reason[:80]} | | | |"
    mine = [entry for entry in group if entry["case"]["runner"] == runner and "error" not in entry]
    cells.append(_spread(rates, ",.0f"))
    ratios = [rate / other for rate, other in zip(rates, rival, strict=False)]
    cells.append(_spread(ratios, ".2f") if ratios else "–")
    cells.append(f"{max(map(_peak, mine)):.2f}")
    cells.append(f"{median(entry['flops_per_second'] for entry in mine) / machine['matrix_flops']:.1%}")
    return f"| {' | '.join(cells)} |"


def _guide(entries: Sequence[Entry]) -> Iterator[str]:
    yield "| card of | model | length | batch × accumulation | rank | fits | GiB reserved |"
    yield "|---|---|---|---|---|---|---|"
    for entry in entries:
        case = entry["case"]
        fits = "no: " + entry["error"][:80] if "error" in entry else "yes"
        peak = "" if "error" in entry else f"{_peak(entry):.2f}"
        batch = f"{case['batch_size']} × {case['accumulation']}"
        yield (
            f"| {case['preset']} GB | {case['model']}, {case['bits']} bit | {case['length']} | {batch} | {case['rank']} "
            f"| {fits} | {peak} |"
        )


def _rates(group: Sequence[Entry], runner: str) -> list[float]:
    return [
        float(entry["tokens_per_second"])
        for entry in group
        if entry["case"]["runner"] == runner and "error" not in entry
    ]


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and the range where there were several rounds."""
    middle = format(median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}}–{max(values):{form}})"


def _peak(entry: Entry) -> float:
    return float(entry.get("reserved_gib", entry.get("process_gib", 0.0)))
