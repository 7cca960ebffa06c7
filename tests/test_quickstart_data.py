"""The quick start's questions and answers: enough, distinct, uniform, and true to the code where code can tell."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
import tomli

from ftcore.cli.main import COMMANDS
from ftcore.config import Config, load
from ftcore.errors import EXIT_CODES
from ftcore.plugins import Plugins, discover
from ftcore.settings import Section
from ftcore.settings.audit import AuditSettings
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.run import RunSettings
from ftcore.settings.stages import StageSettings

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"

Pair = dict[str, str]


def read(split: str) -> list[Pair]:
    lines = (QUICKSTART / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


TRAIN, VALIDATION = read("train"), read("validation")
EVERYTHING = TRAIN + VALIDATION

KNOWN = frozenset(
    line.strip()
    for line in """
        config.toml
        manifest.json
        metrics.jsonl
        []
        run.log
        model
        runs
        runs/<name>
        train.jsonl
        pyproject.toml
        20250629-143022
        FTCORE_DISABLE
        HF_TOKEN
        WANDB_API_KEY
        ${NAME}
        ${NAME:-default}
        --set
        pip install 'ftcore[train]'
        "null"
        auto
        none
        all
        lora_only
        skip
        "unsloth"
        "all-linear"
        chatml
        linear
        cosine
        constant
        float16
        bfloat16
        float32
        adamw_torch
        paged_adamw_8bit
        q_proj
        k_proj
        v_proj
        o_proj
        gate_proj
        up_proj
        down_proj
        { loftq_bits = 4, loftq_iter = 1 }
        save_to_disk
        smollm2:135m-instruct
        question
        answer
        system
        instruction
        input
        output
        ftcore
        hookimpl
        Section
        ftcore_save
        ftcore_settings
        [project.entry-points.ftcore]
        acme = "acme_ftcore"
    """.splitlines()
    if line.strip()
)
"""What may stand in backticks beside keys, sections, plugins, settings and commands, which are looked up."""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover(disabled=())


@pytest.fixture(scope="module")
def settings(plugins: Plugins) -> Config:
    return load(QUICKSTART / "config.toml", plugins)


@pytest.fixture(scope="module")
def models(settings: Config) -> dict[str, type[Section]]:
    """The model of every section, the plugins' included."""
    return core_models() | {name: type(section) for name, section in settings.sections.items()}


def core_models() -> dict[str, type[Section]]:
    return {"fine_tuner": FineTunerSettings, "stages": StageSettings, "run": RunSettings, "audit": AuditSettings}


def normalized(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9_]+", text.lower()))


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_there_are_enough_pairs_of_the_same_shape() -> None:
    assert len(TRAIN) >= 180
    assert len(VALIDATION) >= 36
    for pair in EVERYTHING:
        assert list(pair) == ["topic", "fact", "question", "answer"]
        assert all(value == value.strip() and value for value in pair.values()), pair


@pytest.mark.parametrize("column", ["question", "answer"])
def test_no_text_occurs_twice_within_or_across_the_splits(column: str) -> None:
    counts = Counter(normalized(pair[column]) for pair in EVERYTHING)
    assert [text for text, count in counts.items() if count > 1] == []


def test_validation_asks_for_facts_that_training_covers_often() -> None:
    covered = Counter(pair["fact"] for pair in TRAIN)
    assert all(covered[pair["fact"]] >= 4 for pair in VALIDATION)
    assert max(Counter(pair["fact"] for pair in VALIDATION).values()) == 1


def test_the_questions_shown_to_the_user_are_about_the_facts_most_often_trained() -> None:
    covered = Counter(pair["fact"] for pair in TRAIN)
    assert {pair["fact"] for pair in VALIDATION[:3]} == {fact for fact, _ in covered.most_common(3)}


@pytest.mark.parametrize("pair", VALIDATION, ids=lambda pair: pair["fact"])
def test_a_validation_pair_is_a_paraphrase(pair: Pair) -> None:
    asked = normalized(pair["question"])
    closest = max(TRAIN, key=lambda other: SequenceMatcher(None, asked, normalized(other["question"])).ratio())
    assert SequenceMatcher(None, asked, normalized(closest["question"])).ratio() < 0.85, closest["question"]

    said = set(normalized(pair["answer"]).split())
    same_fact = [set(normalized(other["answer"]).split()) for other in TRAIN if other["fact"] == pair["fact"]]
    assert max(len(said & other) / len(said) for other in same_fact) > 0.6, "the answer says something else"


@pytest.mark.parametrize("pair", EVERYTHING, ids=lambda pair: pair["question"])
def test_style_is_uniform(pair: Pair) -> None:
    question, answer = pair["question"], pair["answer"]
    assert (question + answer).isascii()
    assert "!" not in question + answer
    assert "\n" not in question + answer
    assert question.endswith("?")
    assert question[0].isupper() or question.startswith("ftcore ")
    assert 3 <= len(question.split()) <= 25

    assert answer.endswith(".")
    assert not answer.endswith("..")
    assert answer[0].isupper() or answer[0] in '`"0123456789' or answer.startswith("ftcore ")
    assert answer.count("`") % 2 == 0
    assert 15 <= len(answer.split()) <= 60
    sentences = re.split(r"(?<=[.?])\s+", re.sub(r"^(Yes|No)\. ", "", answer))
    assert len(sentences) <= 3, sentences
    assert not re.search(r"\b(I|we|our|simply|just|easily|please)\b", answer)


@pytest.mark.parametrize("pair", EVERYTHING, ids=lambda pair: pair["question"])
def test_what_stands_in_backticks_exists(pair: Pair, plugins: Plugins, models: dict[str, type[Section]]) -> None:
    keys = {key for model in models.values() for key in model.model_fields}
    for text in quoted(pair["question"]) + quoted(pair["answer"]):
        if text in KNOWN or text in keys or plugins.get(text) is not None:
            continue
        if section := re.fullmatch(r"\[(\w+)\]", text):
            assert section[1] in models, text
        elif re.match(r"(FTCORE_DISABLE=\w+ )?ftcore ", text):
            assert_command(text, models)
        elif text.startswith("--set "):
            assert_overrides(shlex.split(text), models)
        else:
            assert_setting(text, models)


def assert_command(text: str, models: dict[str, type[Section]]) -> None:
    words = shlex.split(text.partition("ftcore ")[2])
    assert words.pop(0) in COMMANDS, text
    if words[:1] == ["why"]:
        assert text.startswith("ftcore plugins why ")
        words.pop(0)
    if words[:1] == ["config.toml"]:
        words.pop(0)
    assert_overrides(words, models)


def assert_overrides(words: list[str], models: dict[str, type[Section]]) -> None:
    for option, setting in zip(words[::2], words[1::2], strict=True):
        assert option == "--set"
        section, _, key = setting.partition("=")[0].partition(".")
        assert key in models[section].model_fields, setting


def assert_setting(text: str, models: dict[str, type[Section]]) -> None:
    """`key = value`, as a configuration would accept it."""
    ((key, value),) = tomli.loads(text).items()
    model = next(model for model in models.values() if key in model.model_fields)  # the core's, before a plugin's
    required = {"base_model_id": "model", "training_data_id": "data"} if "base_model_id" in model.model_fields else {}
    settings = model.model_validate({**required, key: value})
    assert key in settings.model_fields_set


DEFAULT = re.compile(r"`(?P<key>\w+)`(?: in `\[(?P<section>\w+)\]`)? defaults to (?P<value>`[^`]+`|[\w.]*\w)")


@pytest.mark.parametrize("pair", EVERYTHING, ids=lambda pair: pair["question"])
def test_a_stated_default_is_the_default(pair: Pair, models: dict[str, type[Section]]) -> None:
    for stated in DEFAULT.finditer(pair["answer"]):
        key, value = stated["key"], stated["value"].strip("`")
        sections = (
            [stated["section"]] if stated["section"] else [name for name in models if key in default_keys(models[name])]
        )
        assert len(sections) == 1, stated[0]
        default = models[sections[0]].model_fields[key].default
        assert as_text(default) == as_text(read_value(value)), stated[0]


def default_keys(model: type[Section]) -> set[str]:
    return {key for key, field in model.model_fields.items() if not field.is_required()}


def read_value(text: str) -> Any:
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return text


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_every_key_of_ftcore_is_explained() -> None:
    named = {text for pair in TRAIN for text in quoted(pair["answer"])}
    named |= {text.partition(" = ")[0] for text in named}
    for section, model in core_models().items():
        assert set(model.model_fields) - named == set(), section


def test_every_default_of_ftcore_is_stated() -> None:
    stated = {match["key"] for pair in TRAIN for match in DEFAULT.finditer(pair["answer"])}
    for section, model in core_models().items():
        defaults = {key for key in default_keys(model) if model.model_fields[key].default not in (None, "")}
        assert defaults - stated - {"target_modules"} == set(), section  # that one is a list, told in words


def test_exit_codes_are_the_documented_ones() -> None:
    named = {int(code) for pair in EVERYTHING for code in re.findall(r"[Ee]xit code (\d+)", pair["answer"])}
    assert named == EXIT_CODES.keys() - {0}


def test_the_faq_is_current() -> None:
    script = runpy.run_path(str(QUICKSTART / "make_faq.py"))
    assert script["FAQ"].read_text(encoding="utf-8") == script["faq"](), "run examples/quickstart/make_faq.py"


def test_the_configuration_trains_on_these_pairs(settings: Config) -> None:
    for key in ("training_data_id", "validation_data_id"):
        assert (QUICKSTART / getattr(settings.fine_tuner, key)).is_file()
    assert settings.run.sample_answers == 3
