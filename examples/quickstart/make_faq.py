"""Renders the quick start's questions and answers into docs/faq.md, by topic and fact."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).resolve().parent
FAQ = HERE.parents[1] / "docs" / "faq.md"

HEAD = """\
# Questions and answers

These are the pairs that the quick start trains on and is validated with (`examples/quickstart`). The same fact is asked
for in several ways. This page is generated: edit the data, then run `python examples/quickstart/make_faq.py`.
"""

Pair = dict[str, str]


def pairs(split: str) -> list[Pair]:
    """The pairs of `train` or `validation`, in the order of the file."""
    lines = (HERE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def faq() -> str:
    """The page, as Markdown."""
    everything = pairs("train") + pairs("validation")
    topics = list(dict.fromkeys(pair["topic"] for pair in everything))
    facts = list(dict.fromkeys(pair["fact"] for pair in everything))
    # The sort is stable: inside a fact the pairs keep their order, training before validation.
    everything.sort(key=lambda pair: (topics.index(pair["topic"]), facts.index(pair["fact"])))
    sections = [HEAD]
    for topic, in_topic in groupby(everything, key=lambda pair: pair["topic"]):
        sections.append(f"## {topic}\n")
        for _, about_fact in groupby(in_topic, key=lambda pair: pair["fact"]):
            first, *others = about_fact
            sections.append(f"### {first['question']}\n\n{first['answer']}\n")
            if others:
                sections.append("\n".join(f"- *{pair['question']}* {pair['answer']}" for pair in others) + "\n")
    return "\n".join(sections)


if __name__ == "__main__":
    FAQ.write_text(faq(), encoding="utf-8")
    print(f"{FAQ} written")
