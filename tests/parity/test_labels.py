"""Labels are those of unsloth and TRL wherever these are right; where they are not, `docs/labels.md` says how, and why."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from packaging.version import Version

pytest.importorskip("trl", reason="training needs the extra [train]")
sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))

from families import FAMILIES, Family, tokenizer_of
from sft_parts import Given, conversation, gsm8k, rows_of

from ftcore.contracts import Conversation
from ftcore.testing.models import tiny_model
from ftcore_sft.labels import IGNORED
from ftcore_sft.prepare import Recipe, prepare
from ftcore_sft.verified import trained_markers

PAGE = Path(__file__).parents[2] / "docs" / "labels.md"
SAID = re.compile(r"`([^`]*)`")

Labels = list[list[int]]


def generated(count: int) -> list[Conversation]:
    """Conversations that hypothesis makes up, without markers and without white space at the edges of a text."""
    found: list[Conversation] = []
    texts = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="<|>[]▁"), min_size=1, max_size=12)
    spoken = st.lists(texts, min_size=1, max_size=5).map(" ".join)

    @settings(max_examples=count, deadline=None, phases=[Phase.generate], database=None, derandomize=True)
    @given(st.lists(st.tuples(spoken, spoken), min_size=1, max_size=3), st.none() | spoken)
    def collect(turns: list[tuple[str, str]], system: str | None) -> None:
        found.append(conversation(*(text for pair in turns for text in pair), system=system))

    collect()
    return found


@cache
def spoken() -> tuple[list[Conversation], list[Conversation]]:
    """Conversations of one question, and of several."""
    rows = gsm8k(60)
    one = [conversation(row["question"], row["answer"]) for row in rows]
    several = [
        conversation(a["question"], a["answer"], b["question"], b["answer"])
        for a, b in zip(rows[::2], rows[1::2], strict=True)
    ]
    for turns in generated(80):
        (one if sum(turn["role"] == "user" for turn in turns) == 1 else several).append(turns)
    assert len(one) > 70
    assert len(several) > 50
    return one, several


def taken(family: Family, conversations: Iterable[Conversation]) -> list[Conversation]:
    return [turns for turns in conversations if family.system or turns[0]["role"] != "system"]


def ours(tokenizer: Any, conversations: Sequence[Conversation]) -> tuple[Labels, Labels]:
    """Tokens and labels as ftcore makes them."""
    markers = trained_markers(tokenizer, None, None)
    rows, tally = prepare(rows_of(conversations), Recipe(Given(), tokenizer, markers, 100_000), 1)
    assert tally.bad_rows == 0
    return rows["input_ids"][:], rows["labels"][:]


def learned(tokenizer: Any, labels: Sequence[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def up_to_the_end(labels: Sequence[int], end: int) -> list[int]:
    """Without what is learned directly behind a token that ends a turn."""
    kept, ended = [], False
    for label in labels:
        ended = ended and label != IGNORED
        kept.append(IGNORED if ended else label)
        ended = ended or label == end
    return kept


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """A table of the page: for each case what is written as code in its row, the last column left out."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cases = {}
    for row in section.splitlines():
        if row.startswith("| `"):
            name, *spans = SAID.findall(row.rpartition(" | ")[0])
            texts = (text.replace("\\|", "|").replace("\\n", "\n").replace("(nothing)", "") for text in spans)
            cases[name] = tuple(texts)
    assert cases, heading
    return cases


CHAT = "<|im_start|>assistant\n"
WITH_UNSLOTH: dict[str, tuple[str, Conversation]] = {
    "quoted-in-question": ("chatml", conversation(f"What is {CHAT}in ChatML?", "An opener.")),
    "quoted-in-answer": ("chatml", conversation("Show me!", "It is <|im_start|>user\nHi<|im_end|> and so on.")),
    "quoted-in-system": ("deepseek", conversation("Who?", "Me.", system="Write no <｜Assistant｜> here.")),
    "merged": ("chatml", conversation("Draw!", "\n\n\nA")),
    "behind-the-end": ("gemma", conversation("Who?", "Me.", "Why?", "So.")),
    "behind-the-end-of-all": ("phi3", conversation("Who?", "Me.")),
}


def unsloths(python: Path, folder: Path, jobs: Sequence[tuple[Family, Labels]]) -> list[Labels]:
    """Labels by `train_on_responses_only`."""
    written = []
    for number, (family, ids) in enumerate(jobs):
        family.tokenizer.save_pretrained(str(folder / str(number)))
        markers = trained_markers(family.tokenizer, None, None)
        written.append(
            {
                "tokenizer": str(folder / str(number)),
                "question_part": markers.question,
                "answer_part": markers.answer,
                "input_ids": ids,
            }
        )
    (folder / "given.json").write_text(json.dumps(written))
    script = Path(__file__).with_name("unsloth_labels.py")
    own = {"UNSLOTH_FORCE_CPU": "1", "UNSLOTH_DISABLE_STATISTICS": "1", "UNSLOTH_COMPILE_LOCATION": str(folder)}
    done = subprocess.run(
        [str(python), str(script), str(folder / "given.json"), str(folder / "result.json")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **own},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    result: list[Labels] = json.loads((folder / "result.json").read_text())
    return result


COMPARED = (
    "chatml",
    "qwen2_5",
    "qwen3",
    "smollm",
    "llama3",
    "mistral with tokens",
    "gemma",
    "gemma built-in",
    "phi3",
    "deepseek",
)
"""Families whose markers are the same tokens wherever they stand. Without tokens of their own (`[INST]` in a vocabulary of
words), it depends on the text beside them whether unsloth finds them."""


@pytest.mark.slow
@pytest.mark.xdist_group("unsloth")
def test_labels_are_those_of_unsloth(tmp_path: Path, unsloth_python: Path) -> None:
    said = {name: taken(FAMILIES[name], [*spoken()[0], *spoken()[1]]) for name in COMPARED}
    made = {name: ours(FAMILIES[name].tokenizer, turns) for name, turns in said.items()}
    cases = {case: ours(FAMILIES[name].tokenizer, [turns]) for case, (name, turns) in WITH_UNSLOTH.items()}
    jobs = [(FAMILIES[name], ids) for name, (ids, _) in made.items()]
    jobs += [(FAMILIES[WITH_UNSLOTH[case][0]], ids) for case, (ids, _) in cases.items()]
    theirs = unsloths(unsloth_python, tmp_path, jobs)
    for (name, (_, labels)), other in zip(made.items(), theirs, strict=False):
        tokenizer, end = FAMILIES[name].tokenizer, FAMILIES[name].end
        if end != tokenizer.eos_token:  # the case `behind-the-end`
            other = [up_to_the_end(row, tokenizer.convert_tokens_to_ids(end)) for row in other]
        for turns, mine, their in zip(said[name], labels, other, strict=True):
            assert mine == their, (name, turns)
    seen = {}
    for (case, (_, labels)), other in zip(cases.items(), theirs[len(made) :], strict=True):
        tokenizer = FAMILIES[WITH_UNSLOTH[case][0]].tokenizer
        seen[case] = (learned(tokenizer, labels[0]), learned(tokenizer, other[0]))
    assert seen == table("unsloth")


TEMPLATES = {
    "qwen3_training": "qwen3",
    "qwen3_instruct_2507_training": "qwen3",
    "qwen2_5_training": "qwen2_5",
    "llama3_training": "llama3",
    "gemma_training": "gemma",
    "gemma3_training": "gemma",
    "phi3_training": "phi3",
    "deepseekv3_training": "deepseek",
    "lfm2_training": "chatml",
}
"""Templates of the real models with TRL's `{% generation %}` marks, and whose tokens they write."""


def with_template(family: Family, template: str) -> Any:
    """The family's tokenizer with a template of TRL's."""
    import trl

    path = Path(trl.__file__).parent / "chat_templates" / f"{template}.jinja"
    if not path.exists():
        pytest.skip(f"this TRL has no template {template}")
    tokenizer = tokenizer_of.__wrapped__(family)
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    return tokenizer


@pytest.mark.parametrize("template", TEMPLATES)
def test_labels_are_what_trl_marks_as_the_assistants(template: str) -> None:
    family = FAMILIES[TEMPLATES[template]]
    marked = with_template(family, template)
    said = taken(family, [*spoken()[0][50:], *spoken()[1][20:]])
    encoded = marked.apply_chat_template(said, return_dict=True, return_assistant_tokens_mask=True)
    # Without the marks, what is learned is found by the markers alone.
    bare = with_template(family, template)
    bare.chat_template = re.sub(r"(\{%-?\s*)(end)?generation(\s*-?%\})", _if_true, bare.chat_template)
    ids, labels = ours(bare, said)
    assert ids == encoded["input_ids"]
    more = set()
    for mine, row, mask in zip(labels, ids, encoded["assistant_masks"], strict=True):
        wanted = [bool(mark) for mark in mask]
        assert all(theirs for label, theirs in zip(mine, wanted, strict=True) if label != IGNORED)
        more |= {token for label, token, theirs in zip(mine, row, wanted, strict=True) if theirs and label == IGNORED}
    # TRL's marks hold, beside the answers, something of what the template writes around them.
    (stated,) = table("TRL, assistant only")[template]
    assert {marked.decode([token]) for token in more} == set(filter(None, stated.split(" ")))
    assert not trained_markers(marked, None, None).generation
    assert ours(marked, said) == (ids, labels)


def _if_true(match: re.Match[str]) -> str:
    begin, end, close = match.groups()
    return f"{begin}{'endif' if end else 'if true'}{close}"


COMPLETIONS = ("chatml", "llama3", "mistral with tokens", "deepseek", "gemma")


@pytest.mark.parametrize("name", COMPLETIONS)
def test_the_last_answers_labels_are_trls_completion(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    said = taken(family, [*spoken()[0][50:], *spoken()[1][20:]])
    tokenizer = tokenizer_of.__wrapped__(family)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    ids, labels = ours(tokenizer, said)
    rows = completions(tokenizer, said, tmp_path)
    end = tokenizer.convert_tokens_to_ids(family.end)
    for turns, mine, own, (tokens, theirs) in zip(said, labels, ids, rows, strict=True):
        assert own == tokens, turns
        start = next(place for place, label in enumerate(theirs) if label != IGNORED)
        last = [label if place >= start else IGNORED for place, label in enumerate(mine)]
        assert last == up_to_the_end(theirs, end), turns


def completions(tokenizer: Any, said: Sequence[Conversation], folder: Path) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels that TRL makes of prompts with completions."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(
        output_dir=str(folder / "out"), bf16=False, use_cpu=True, report_to="none", max_length=None, disable_tqdm=True
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(tiny_model(folder / "model", vocab_size=1200))),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict(
            {"prompt": [turns[:-1] for turns in said], "completion": [turns[-1:] for turns in said]}
        ),
        args=args,
    )
    batches = [trainer.data_collator([row]) for row in trainer.train_dataset]
    return [(batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) for batch in batches]


@pytest.mark.skipif(Version(version("trl")) < Version("1.14"), reason="the page tells of TRL from 1.14 on")
def test_where_trl_learns_something_else(tmp_path: Path) -> None:
    cases = {
        "behind-the-end": ("chatml", conversation("Who?", "Me.")),
        "earlier-answers": ("deepseek", conversation("Who?", "Me.", "Why?", "So.")),
        "thoughts": ("qwen3", conversation("Who?", "<think>\nHm.\n</think>\n\nMe.", "Why?", "So.")),
    }
    seen = {}
    for case, (name, turns) in cases.items():
        tokenizer = tokenizer_of.__wrapped__(FAMILIES[name])
        _, labels = ours(tokenizer, [turns])
        ((_, theirs),) = completions(tokenizer, [turns], tmp_path / case)
        seen[case] = (learned(tokenizer, labels[0]), learned(tokenizer, theirs))
    assert seen == table("TRL, completion only")
