"""The model card: what was trained, on what, how, and how well it went."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftcore import __version__
from ftcore.secrets import mask


@dataclass(frozen=True)
class CardFacts:
    """What the card says.

    Attributes:
        name: the run's name.
        base_model_id: the model that was trained.
        kind: "adapter" or "full".
        training_data_id, validation_data_id: as configured.
        data: counts of rows and tokens.
        settings: the settings worth showing, by key.
        metrics: losses before and after.
        libraries: versions.
        answers: question, answer before, answer after.
    """

    name: str
    base_model_id: str
    kind: str
    training_data_id: str
    validation_data_id: str | None
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    libraries: Mapping[str, str]
    answers: Sequence[tuple[str, str, str]] = field(default=())


def render(facts: CardFacts) -> str:
    """The card as Markdown with the Hub's YAML front matter, secrets masked.

    Source of the front matter's keys: the Hub's model card specification (`library_name`, `base_model`, `tags`).
    """
    adapter = facts.kind == "adapter"
    hub_id = _is_hub_id(facts.base_model_id)
    front = ["---", f"library_name: {'peft' if adapter else 'transformers'}"]
    front += [f"base_model: {facts.base_model_id}"] if hub_id else []
    front += ["pipeline_tag: text-generation", "tags:", "- ftcore", *(["- lora"] if adapter else []), "---"]
    validation = f", validated on {_code(facts.validation_data_id)}" if facts.validation_data_id else ""
    lines = [
        *front,
        f"# {facts.name}",
        "",
        f"{'A LoRA adapter for' if adapter else 'A full fine-tune of'} {_code(facts.base_model_id)}, trained on "
        f"{_code(facts.training_data_id)}{validation} with ftcore {__version__}.",
        "",
        "## Results",
        "",
        *_table(("metric", "value"), [(name, f"{value:.4f}") for name, value in facts.metrics.items()]),
        "",
        "## Data",
        "",
        *_table(("count", "value"), facts.data.items()),
        "",
        "## Settings",
        "",
        *_table(("key", "value"), facts.settings.items()),
        "",
        "## Versions",
        "",
        *_table(("library", "version"), facts.libraries.items()),
    ]
    if facts.answers:
        lines += ["", "## Answers to held-out questions"]
        for question, before, after in facts.answers:
            lines += ["", f"**{_inline(question)}**", "", f"- before: {_inline(before)}", f"- after: {_inline(after)}"]
    return mask("\n".join(lines) + "\n")


def _is_hub_id(model_id: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", model_id, re.ASCII) is not None


def _table(head: tuple[str, str], rows: Any) -> list[str]:
    return [
        f"| {head[0]} | {head[1]} |",
        "|---|---|",
        *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows),
    ]


def _cell(value: Any) -> str:
    return _inline(str(value)).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_inline(text)}`" if "`" not in text else _inline(text)


def _inline(text: str) -> str:
    # Data end up in Markdown that browsers render: no line breaks, no HTML.
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
