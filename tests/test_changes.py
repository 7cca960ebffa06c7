"""What may be different when a run goes on, and what may not."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ftcore.config import CORE_SECTIONS
from ftcore.errors import InvalidConfig
from ftcore.plugins.selection import Choice
from ftcore.run import runs
from ftcore.run.changes import (
    LEARNING_LIBRARIES,
    LEARNING_STAGES,
    Change,
    changeable,
    changes,
    data_changes,
    renewed,
    require_none,
)
from ftcore.run.resuming import find

NOW = datetime(2026, 11, 23, 12).astimezone()
SELECTED = [
    Choice("loader", "transformers", "named"),
    Choice("trainer", "sft", "named"),
    Choice("reporter", "mlflow", "named"),
]

FIXED = {
    "fine_tuner": """
        base_model_id max_sequence_length dtype load_in_4bit load_in_8bit full_finetuning use_flash_attention
        chat_template trust_remote_code rank lora_alpha lora_dropout target_modules bias use_rslora loftq_config
        epochs learning_rate device_train_batch_size grad_accumulation warmup_steps lr_scheduler_type optimizer
        weight_decay seed packing train_on_responses_only question_part answer_part
    """,
    "stages": "",
    "run": "",
    "audit": "",
    "sft": "group_by_length max_grad_norm fast_cpu round_once",
}
"""The keys on which the result depends. A new key stands here, or among its section's `may_change`: somebody decided."""


def test_every_key_was_decided(plugins: Any) -> None:
    for section, model in (CORE_SECTIONS | plugins.sections).items():
        record = plugins.get(section)
        learning = record is not None and bool(set(record.stages) & set(LEARNING_STAGES))
        free = changeable(section, model, learning)
        assert free <= set(model.model_fields), f"{section}: may_change names keys that are not there"
        fixed = set(model.model_fields) - free
        assert fixed == set(FIXED.get(section, "").split()), section


class Begun:
    """A run directory as its first process left it."""

    def __init__(self, load: Any, plugins: Any) -> None:
        self.load, self.plugins = load, plugins
        self.config = load('rank = 8\n[run]\nname = "r"\n')
        active = runs.create(self.config, plugins, SELECTED, "r", NOW)
        self.folder, self.facts = active.dir, dict(active.facts)
        active.close()

    def compared(
        self, *overrides: str, facts: dict[str, Any] | None = None, selected: list[Choice] | None = None
    ) -> list[Change]:
        today = self.load('rank = 8\n[run]\nname = "r"\n', *overrides)
        return changes(self.folder, facts or self.facts, today, self.plugins, selected or SELECTED)


@pytest.fixture
def begun(load: Any, plugins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    monkeypatch.chdir(tmp_path)
    return Begun(load, plugins)


def test_nothing_has_changed(begun: Begun) -> None:
    assert begun.compared() == []


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ("fine_tuner.rank=16", Change("fine_tuner.rank", "8", "16", matters=True)),
        ("fine_tuner.dtype=float32", Change("fine_tuner.dtype", '"null"', '"float32"', matters=True)),
        ("fine_tuner.save_steps=7", Change("fine_tuner.save_steps", "20", "7", matters=False)),
        ('run.output_dir="elsewhere"', Change("run.output_dir", '"runs"', '"elsewhere"', matters=False)),
        ("sft.fast_cpu=false", Change("sft.fast_cpu", "true", "false", matters=True)),
        ("sft.eval_steps=3", Change("sft.eval_steps", '"null"', "3", matters=False)),
        ("mlflow.experiment_name=b", Change("mlflow.experiment_name", '"ftcore"', '"b"', matters=False)),
    ],
)
def test_a_setting(begun: Begun, override: str, change: Change) -> None:
    found = begun.compared(override)
    assert [(item.what, item.new, item.matters) for item in found] == [(change.what, change.new, change.matters)]
    if change.what != "mlflow.experiment_name":
        assert found == [change]


def test_versions_of_what_computes_matter_and_others_are_a_note(begun: Begun) -> None:
    facts = copy.deepcopy(begun.facts)
    facts["libraries"] |= {"torch": "2.0.0", "pydantic": "2.0", "unsloth": "2026.1"}
    facts["plugins"]["sft"]["version"] = "0.0.9"
    facts["plugins"]["mlflow"]["version"] = "0.0.9"
    found = {change.what: (change.old, change.matters) for change in begun.compared(facts=facts)}
    assert "unsloth" not in found or not found.pop("unsloth")[1]  # one that is not there now was not used
    expected = {"pydantic": ("2.0", False), "the plugin sft (ftcore)": ("0.0.9", True)}
    assert found == expected | ({"torch": ("2.0.0", "torch" in begun.facts["libraries"])})
    assert "torch" in LEARNING_LIBRARIES


def test_another_plugin_for_a_stage_that_learns(begun: Begun) -> None:
    other = [Choice("loader", "unsloth", "auto"), *SELECTED[1:]]
    assert begun.compared(selected=other) == [Change("the loader", "transformers", "unsloth", matters=True)]
    no_reporter = SELECTED[:2]
    assert begun.compared(selected=no_reporter) == []


def test_examples_decide_and_rows_are_a_note() -> None:
    then = {"data_fingerprints": {"training": "a"}, "example_fingerprints": {"training": "x"}, "processes": 1}
    now = {"data_fingerprints": {"training": "b"}, "example_fingerprints": {"training": "x"}, "processes": 1}
    assert data_changes(then, then) == []
    assert data_changes({}, now) == []
    assert [str(change) for change in data_changes(then, now)] == [
        "the fingerprint of the training rows was a and is b"
    ]
    require_none("r", data_changes(then, now))
    now["example_fingerprints"] = {"training": "x", "validation": "y"}
    assert [change.matters for change in data_changes(then, now)] == [False, True]
    assert data_changes(then, {**then, "processes": 2})[0].matters


def test_what_matters_is_one_line_each(begun: Begun) -> None:
    with pytest.raises(InvalidConfig) as refused:
        require_none("r", begun.compared("fine_tuner.rank=16", "fine_tuner.save_steps=7"))
    assert refused.value.exit_code == 2
    assert refused.value.lines == (
        "fine_tuner.rank was 8 and is 16: the result depends on it",
        "the run r cannot go on while this is different. Change it back, or add --accept-changes",
    )


def test_a_run_that_goes_on_is_described_by_todays_settings(begun: Begun) -> None:
    today = begun.load('rank = 16\n[run]\nname = "r"\n')
    facts = renewed(begun.folder, today, begun.plugins, SELECTED)
    begun.facts |= facts
    assert changes(begun.folder, begun.facts, today, begun.plugins, SELECTED) == []
    assert "run" not in facts
    assert "started_at" not in facts


def test_the_newest_run_of_this_configuration_is_found(
    load: Any, plugins: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load()
    for second, name in ((1, "b"), (3, "a"), (2, "c")):
        runs.create(config, plugins, [], name, NOW.replace(second=second)).close()
    other = runs.create(config, plugins, [], "other", NOW.replace(second=9))
    other.close()
    facts = json.loads((other.dir / "manifest.json").read_text())
    (other.dir / "manifest.json").write_text(json.dumps(facts | {"config_file": "other.toml"}))
    Path("runs/half").mkdir()
    assert find(config, "") == Path("runs/a")
    assert find(config, "other") == Path("runs/other")
    assert find(config, "runs/c") == Path("runs/c")
    assert find(load('[run]\nname = "b"\n'), "") == Path("runs/b")
    assert find(load('[run]\nname = "new"\n'), "") is None
