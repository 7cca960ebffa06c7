"""The merged model's card: its own part, and the adapter's behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftcore.secrets import mask
from ftcore_merged.judgement import Losses


def render(adapter_card: str, facts: Mapping[str, Any], losses: Losses | None, unchecked: str) -> str:
    """The card as Markdown with the Hub's front matter.

    Args:
        adapter_card: the card of the adapter.
        facts: what `merge.json` says.
        losses: on the held-out rows, if they were measured.
        unchecked: why they were not.
    """
    front, title, body = _parts(adapter_card)
    lines = ["---", *front, "---", f"# {title}", "", _about(facts), "", "## Merge", ""]
    if losses is None:
        lines.append(f"Whether the merge has kept what the adapter learned could not be checked: {unchecked}.")
    else:
        lines += ["| | loss on held-out rows |", "|---|--:|"]
        lines += [f"| base model | {losses.base:.4f} |", f"| with the adapter | {losses.adapter:.4f} |"]
        lines += [f"| merged | {losses.merged:.4f} |", "", _kept(losses)]
    if facts["update_kept"] is not None:
        lines += ["", f"Of the weights' change, {100 * facts['update_kept']:.1f} % is left after rounding."]
    lines += ["", "# The adapter", "", body.strip()]
    return mask("\n".join(lines) + "\n")


def _kept(losses: Losses) -> str:
    return f"{losses.told()[0].upper()}{losses.told()[1:]}."


def _about(facts: Mapping[str, Any]) -> str:
    how = {"stochastic": f"stochastically (seed {facts['seed']})", "nearest": "to the nearest number"}
    rounded = "" if facts["dtype"] == "float32" else f", rounded {how[facts['rounding']]}"
    return f"A LoRA adapter, merged in float32 into {facts['base']}, and stored in {facts['dtype']}{rounded}."


def _parts(card: str) -> tuple[list[str], str, str]:
    """Front matter for a whole model, the title, and what follows it."""
    _, _, rest = card.partition("---\n")
    head, mark, body = rest.partition("\n---\n")
    if not card.startswith("---\n") or not mark:
        head, body = "", card
    front = ["library_name: transformers"]
    front += [line for line in head.splitlines() if not line.startswith("library_name:") and line != "- lora"]
    title, _, after = body.lstrip().partition("\n")
    return front, title.removeprefix("# ") or "Merged model", after
