"""From a file, the environment and `--set` to settings, and every problem on the way."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ftcore.config import Config
from ftcore.errors import ConfigError, InvalidConfig
from ftcore.settings.base import RawText, Section
from ftcore.settings.contradictions import contradictions
from ftcore.settings.fine_tuner import CONCERNS, FineTunerSettings
from ftcore.settings.lora import LoraSettings

Load = Callable[..., Config]


def problems(load: Load, text: str = "", *overrides: str, whole: bool = False) -> list[str]:
    """The lines reported for a configuration, the file's folder left out."""
    with pytest.raises(InvalidConfig) as caught:
        load(text, *overrides, whole=whole)
    assert caught.value.exit_code == 2
    return [line.replace(str(line).partition("config.toml")[0], "", 1) if "config.toml" in line else line
            for line in caught.value.lines]  # fmt: skip


# Values and defaults


def test_the_minimal_configuration_has_the_documented_defaults(load: Load) -> None:
    settings = load().fine_tuner
    assert settings.base_model_id == "m"
    assert settings.training_data_id == "d.jsonl"
    assert (settings.rank, settings.lora_alpha, settings.lora_dropout) == (16, 16, 0.1)
    assert (settings.epochs, settings.learning_rate, settings.seed) == (30, 0.0002, 42)
    assert settings.load_in_4bit
    assert not settings.push_to_hub
    assert settings.reporters() == []
    assert settings.validation_data_id is None


@pytest.mark.parametrize("key", ["dtype", "loftq_config", "validation_data_id", "question_column", "answer_part"])
def test_null_and_absence_mean_none(load: Load, key: str) -> None:
    assert getattr(load(f'{key} = "null"\n').fine_tuner, key) is None
    assert getattr(load().fine_tuner, key) is None
    assert load(f'{key} = "null"\n').was_given("fine_tuner", key)
    assert not load().was_given("fine_tuner", key)


def test_null_where_there_is_no_none_is_an_error(load: Load) -> None:
    assert problems(load, 'rank = "null"\n') == [
        'config.toml:4: fine_tuner.rank = "null" is not allowed: it must be an integer'
    ]


@pytest.mark.parametrize(
    "text",
    ["load_in_8bit = true", "full_finetuning = true", "loftq_config = { loftq_bits = 4 }"],
)
def test_the_default_of_4_bits_gives_way(load: Load, text: str) -> None:
    assert load(text + "\n").fine_tuner.load_in_4bit is False
    key, _, value = text.partition(" = ")
    assert load("", f"fine_tuner.{key}={value}").fine_tuner.load_in_4bit is False


def test_8_bits_switched_off_leave_the_default(load: Load) -> None:
    assert load("load_in_8bit = false\n").fine_tuner.quantization() == "4bit"
    assert load("load_in_8bit = true\n").fine_tuner.quantization() == "8bit"
    assert load("load_in_4bit = false\n").fine_tuner.quantization() is None


def test_a_view_has_the_values_of_its_concern_only(load: Load) -> None:
    view = load("rank = 8\n").fine_tuner.view(LoraSettings)
    assert view.rank == 8
    assert view.model_fields_set == {"rank"}
    assert not hasattr(view, "epochs")


def test_the_concerns_hold_every_key_once() -> None:
    keys = [key for concern in CONCERNS for key in concern.model_fields]
    assert sorted(keys) == sorted(set(keys)) == sorted(FineTunerSettings.model_fields)


def test_every_key_of_every_section_is_documented(plugins: Any) -> None:
    from ftcore.config import CORE_SECTIONS

    for name, model in (CORE_SECTIONS | plugins.sections).items():
        assert model.__doc__, name
        for key, field in model.model_fields.items():
            assert field.description, f"{name}.{key} has no docstring"


# The environment


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("rank", "8", 8),
        ("epochs", "0.5", 0.5),
        ("epochs", "3", 3),
        ("learning_rate", "1e-4", 0.0001),
        ("packing", "true", True),
        ("packing", "false", False),
        ("use_gradient_checkpointing", "unsloth", "unsloth"),
        ("use_gradient_checkpointing", "false", False),
        ("dtype", "bfloat16", "bfloat16"),
        ("dtype", "null", None),
        ("target_modules", '["q_proj", "v_proj"]', ["q_proj", "v_proj"]),
        ("target_modules", "all-linear", "all-linear"),
        ("report_to", '["tensorboard", "mlflow"]', ["tensorboard", "mlflow"]),
        ("report_to", "mlflow", "mlflow"),
        ("loftq_config", "{ loftq_bits = 4 }", {"loftq_bits": 4}),
        ("base_model_id", "12", "12"),
        ("system_prompt_override_text", "[be brief]", "[be brief]"),
        ("system_prompt_override_text", "true", "true"),
        ("question_part", "user\n", "user\n"),
    ],
)
def test_text_from_outside_takes_the_type_of_its_key(
    load: Load, monkeypatch: pytest.MonkeyPatch, key: str, text: str, expected: object
) -> None:
    together = 'answer_part = "a"\n' if key == "question_part" else ""
    monkeypatch.setenv("FTCORE_TEST_VALUE", text)
    file = f'[fine_tuner]\ntraining_data_id = "d"\n{together}{key} = "${{FTCORE_TEST_VALUE}}"\n'
    file += "" if key == "base_model_id" else 'base_model_id = "m"\n'
    from_environment = getattr(load(file, whole=True).fine_tuner, key)
    assert from_environment == expected
    assert type(from_environment) is type(expected)
    from_command_line = getattr(load(together, f"fine_tuner.{key}={text}").fine_tuner, key)
    assert from_command_line == expected
    assert type(from_command_line) is type(expected)


def test_variables_inside_texts_lists_and_tables(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "me")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOBODY", raising=False)
    config = load(
        'validation_data_id = "${WHO}/data-${NOBODY:-x}"\ntarget_modules = ["${WHO}_proj", "v"]\n'
        'system_prompt_override_text = "$${WHO} costs $5 ${EMPTY}${EMPTY:-y}"\n'
        '[mlflow]\ntags = { by = "${WHO}" }\n'
    )
    assert config.fine_tuner.validation_data_id == "me/data-x"
    assert config.fine_tuner.target_modules == ["me_proj", "v"]
    assert config.fine_tuner.system_prompt_override_text == "${WHO} costs $5 y"
    assert config.sections["mlflow"].model_dump()["tags"] == {"by": "me"}


def test_an_unset_variable_is_one_error_and_not_two(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOBODY", raising=False)
    assert problems(load, 'rank = "${NOBODY}"\ndtype = "${NOBODY}"\n') == [
        "config.toml:4: fine_tuner.rank reads the environment variable NOBODY, which is not set. "
        "Set it, or give a default: ${NOBODY:-value}",
        "config.toml:5: fine_tuner.dtype reads the environment variable NOBODY, which is not set. "
        "Set it, or give a default: ${NOBODY:-value}",
    ]


def test_half_a_variable_is_an_error(load: Load) -> None:
    assert problems(load, 'chat_template = "${HOME"\n') == [
        "config.toml:4: fine_tuner.chat_template has a ${ that no variable's name and } follow. "
        "Write ${NAME} or ${NAME:-default}; a ${ that is meant as it stands is written $${"
    ]


def test_a_wrong_value_from_the_environment_is_shown(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "eight")
    assert problems(load, 'rank = "${RANK}"\n') == [
        'config.toml:4: fine_tuner.rank = "eight" is not allowed: it must be an integer'
    ]


# --set


def test_set_replaces_the_file_and_the_last_one_wins(load: Load) -> None:
    config = load("rank = 8\n", "fine_tuner.rank=32", "run.name=first", "run.name=second")
    assert config.fine_tuner.rank == 32
    assert config.run.name == "second"
    assert config.overrides == ("fine_tuner.rank=32", "run.name=first", "run.name=second")
    assert config.locate("fine_tuner.rank") == "--set fine_tuner.rank"


def test_set_keeps_texts_that_look_like_numbers(load: Load) -> None:
    assert load("", "mlflow.run_name=0.1").run.name == "0.1"
    assert load("", "run.name=007").run.name == "007"


def test_set_reads_quotes_and_keeps_spaces(load: Load) -> None:
    config = load("", r'fine_tuner.question_part="<|user|>\n"', "fine_tuner.answer_part=a ")
    assert config.fine_tuner.question_part == "<|user|>\n"
    assert config.fine_tuner.answer_part == "a "
    assert load("", "run.name='x'").run.name == "x"
    assert load("", 'fine_tuner.system_prompt_override_text="a" or "b"').fine_tuner.system_prompt_override_text == (
        '"a" or "b"'
    )


def test_set_reads_the_environment_and_null(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "4")
    config = load('dtype = "float16"\n', "fine_tuner.rank=${RANK}", "fine_tuner.dtype=null")
    assert config.fine_tuner.rank == 4
    assert config.fine_tuner.dtype is None


def test_set_to_false_is_no_contradiction(load: Load) -> None:
    config = load("load_in_8bit = true\n", "fine_tuner.load_in_4bit=false")
    assert config.fine_tuner.quantization() == "8bit"


def test_problems_of_set_name_it_and_suggest_the_same(load: Load) -> None:
    overrides = ("fine_tuner.rnak=3", "fine_tunr.rank=3", "fine_tuner.rank=x", "rank=3", "fine_tuner.rank")
    assert problems(load, "rank = 8\n", *overrides) == [
        "config.toml: --set rank=3 is not of the form section.key=value. Give all three, like --set fine_tuner.rank=…",
        "config.toml: --set fine_tuner.rank is not of the form section.key=value. "
        "Give all three, like --set fine_tuner.epochs=3",
        "--set fine_tunr.rank: the section [fine_tunr] belongs to nothing that is installed. Did you mean [fine_tuner]?",
        "--set fine_tuner.rnak: [fine_tuner] has no key 'rnak'. Did you mean rank?",
        '--set fine_tuner.rank: fine_tuner.rank = "x" is not allowed: it must be an integer',
    ]


def test_contradictions_see_what_set_says(load: Load) -> None:
    assert problems(load, "load_in_4bit = true\n", "fine_tuner.load_in_8bit=true") == [
        "config.toml:4: load_in_4bit and load_in_8bit are both set: a model is quantized once. "
        "Remove load_in_4bit or load_in_8bit"
    ]


# Problems


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(load: Load) -> None:
    text = '[fine_tunerr]\nx = 1\n[fine_tuner]\ntraining_data_id = "d"\nrank = 0\nlearning_rat = 1\n[stages]\nloder = "x"\n'
    assert problems(load, text, whole=True) == [
        "config.toml:1: the section [fine_tunerr] belongs to nothing that is installed. Did you mean [fine_tuner]?",
        '''config.toml:3: [fine_tuner] has no base_model_id, which is required. Add base_model_id = "…"''',
        "config.toml:5: fine_tuner.rank = 0 is not allowed: it must be at least 1",
        "config.toml:6: [fine_tuner] has no key 'learning_rat'. Did you mean learning_rate?",
        "config.toml:8: [stages] has no key 'loder'. Did you mean loader?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank = 1.5", "rank = 1.5 is not allowed: it must be an integer"),
        ("rank = true", "rank = true is not allowed: it must be an integer"),
        ("rank = 5000", "rank = 5000 is not allowed: it must be at most 4096"),
        ("lora_dropout = 1", "lora_dropout = 1 is not allowed: it must be less than 1"),
        ("lora_alpha = inf", "lora_alpha = inf is not allowed: it must be a finite number"),
        ("lora_alpha = nan", "lora_alpha = nan is not allowed: it must be a finite number"),
        ("epochs = -1", "epochs = -1 is not allowed: it must be more than 0"),
        ('epochs = "3"', 'epochs = "3" is not allowed: it must be a number'),
        ('packing = "yes"', 'packing = "yes" is not allowed: it must be true or false'),
        ("base_model_id2 = 1", None),
        ('dtype = "fp16"', 'dtype = "fp16" is not allowed: it must be "float16", "bfloat16" or "float32"'),
        ("bias = 1", 'bias = 1 is not allowed: it must be "none", "all" or "lora_only"'),
        (
            'use_gradient_checkpointing = "yes"',
            'use_gradient_checkpointing = "yes" is not allowed: it must be true, false or "unsloth"',
        ),
        ('target_modules = ["q", 3]', 'target_modules = ["q", 3] is not allowed: it must be a text in quotes (item 2)'),
        ("target_modules = []", "target_modules = [] is not allowed: it must not be empty"),
        ('target_modules = "q"', 'target_modules = "q" is not allowed: it must be a list or "all-linear"'),
        ("report_to = []", "report_to = [] is not allowed: it must not be empty"),
        ("report_to = 3", "report_to = 3 is not allowed: it must be a text in quotes or a list"),
        (
            'report_to = ["mlflow", "none"]',
            'report_to = ["mlflow", "none"] is not allowed: "none" cannot stand beside other reporters',
        ),
        ('loftq_config = "x"', 'loftq_config = "x" is not allowed: it must be a table'),
        ("dtype = 2026-01-01", 'dtype = 2026-01-01 is not allowed: it must be "float16", "bfloat16" or "float32"'),
        ("epochs = { int = 3 }", "epochs = { int = 3 } is not allowed: it must be a number"),
        ("epochs = { x = 3 }", "epochs = { x = 3 } is not allowed: it must be a number"),
        ("seed = 4294967296", "seed = 4294967296 is not allowed: it must be at most 4294967295"),
    ],
)
def test_wrong_values_are_told_what_is_allowed(load: Load, text: str, message: str | None) -> None:
    expected = f"config.toml:4: fine_tuner.{message}" if message else (
        "config.toml:4: [fine_tuner] has no key 'base_model_id2'. Did you mean base_model_id?"
    )  # fmt: skip
    assert problems(load, text + "\n") == [expected]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("lora_r = 8", "It is called rank here"),
        ("per_device_train_batch_size = 1", "It is called device_train_batch_size here"),
        ("output_dir = 'x'", "It belongs under [run]"),
        ("tracking_uri = 'x'", "It belongs under [mlflow]"),
        ("loader = 'x'", "It belongs under [stages]"),
        ("max_sequence_lenght = 8", "Did you mean max_sequence_length?"),
        ("zzzzzz = 1", "`ftcore schema` lists the keys"),
    ],
)
def test_unknown_keys_are_told_where_to_go(load: Load, text: str, fix: str) -> None:
    key = text.partition(" ")[0]
    assert problems(load, text + "\n") == [f"config.toml:4: [fine_tuner] has no key '{key}'. {fix}"]


def test_unknown_keys_of_a_small_section_list_its_keys(load: Load) -> None:
    assert problems(load, "[tensorboard]\nzzz = 1\n") == [
        "config.toml:5: [tensorboard] has no key 'zzz'. Keys of [tensorboard]: log_dir"
    ]


def test_a_section_that_is_an_extra_names_the_install_command(load: Load) -> None:
    from ftcore import extras

    assert extras.install_command("unsloth") == "pip install 'ftcore[unsloth]'"
    assert extras.install_command("dev") == extras.install_command("no-such-thing") == ""


def test_keys_outside_of_sections_and_sections_that_are_no_tables(load: Load) -> None:
    text = 'rank = 8\nwhatever = 1\nmlflow = "http://x"\n[[run]]\nname = "x"\n' + MINIMAL
    assert problems(load, text, whole=True) == [
        "config.toml:1: the key 'rank' stands outside of any section. Put it under [fine_tuner]",
        "config.toml:2: the key 'whatever' stands outside of any section. Put it under the section that it belongs to",
        'config.toml:3: mlflow = "http://x" is not allowed: mlflow is a section, not a key. '
        "Write [mlflow] on a line of its own, and the keys under it",
        'config.toml:4: run = [{ name = "x" }] is not allowed: run is a section, not a key. '
        "Write [run] on a line of its own, and the keys under it",
    ]


MINIMAL = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d"\n'


def test_a_disabled_plugins_section_says_so(tmp_path: Path) -> None:
    from ftcore.config import load as load_config
    from ftcore.plugins import discover

    path = tmp_path / "config.toml"
    path.write_text(MINIMAL + "[wandb]\n", encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        load_config(path, discover(disabled=["wandb"]))
    (line,) = caught.value.lines
    assert line.startswith(f"{path}:4: the section [wandb] cannot be used: plugin 'wandb' (ftcore ")
    assert line.endswith(
        "is disabled: named in FTCORE_DISABLE. Take wandb out of FTCORE_DISABLE, or remove the section"
    )


def test_values_on_several_lines_do_not_shift_the_lines(load: Load) -> None:
    text = 'target_modules = [\n  "q_proj",\n]\nsystem_prompt_override_text = """\nrank = 8\n"""\nloftq_config = { bits = 4 }\nrnk = 1\n'
    assert problems(load, text) == ["config.toml:11: [fine_tuner] has no key 'rnk'. Did you mean rank?"]


# Run names


def test_mlflow_names_are_the_runs_names(load: Load) -> None:
    config = load('[mlflow]\nrun_name = "0.0.1"\nrun_name_prefix = "exp-"\nrun_name_suffix = "-v1"\n')
    assert (config.run.name, config.run.name_prefix, config.run.name_suffix) == ("0.0.1", "exp-", "-v1")


def test_the_same_name_twice_is_no_conflict_and_nothing_is_none(load: Load) -> None:
    assert load('[run]\nname = "a"\n[mlflow]\nrun_name = "a"\n').run.name == "a"
    assert load('[run]\nname = "a"\n[mlflow]\nrun_name = "null"\nrun_name_prefix = ""\n').run.name == "a"
    assert load('[run]\nname = "null"\n[mlflow]\nrun_name = "b"\n').run.name == "b"


def test_two_names_are_a_conflict(load: Load) -> None:
    text = '[run]\nname = "a"\nname_suffix = "-x"\n[mlflow]\nrun_name = "b"\nrun_name_suffix = "-y"\n'
    assert problems(load, text) == [
        'config.toml:8: run.name = "a" and mlflow.run_name = "b" name the same thing. Remove one of them',
        'config.toml:9: run.name_suffix = "-x" and mlflow.run_name_suffix = "-y" name the same thing. '
        "Remove one of them",
    ]


# Contradictions


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, ["load_in_4bit and load_in_8bit are both set: a model is quantized once"]),
        ({"load_in_4bit": True, "full_finetuning": True}, ["load_in_4bit and full_finetuning are both set: quantized weights cannot be trained"]),
        ({"load_in_8bit": True, "full_finetuning": True}, ["load_in_8bit and full_finetuning are both set: quantized weights cannot be trained"]),
        ({"load_in_4bit": True, "loftq_config": {"a": 1}}, ["load_in_4bit and loftq_config are both set: LoftQ quantizes the full-precision weights itself"]),
        ({"load_in_8bit": True, "loftq_config": {"a": 1}}, ["load_in_8bit and loftq_config are both set: LoftQ quantizes the full-precision weights itself"]),
        ({"full_finetuning": True, "loftq_config": {"a": 1}}, ["full_finetuning and loftq_config are both set: LoftQ starts an adapter and there is none"]),
        ({"question_part": "q"}, ["question_part is set and answer_part is not: only together do they mark where a turn begins and ends"]),
        ({"answer_part": "a"}, ["answer_part is set and question_part is not: only together do they mark where a turn begins and ends"]),
        ({"load_in_4bit": False, "load_in_8bit": True, "loftq_config": None}, []),
        ({"question_part": "q", "answer_part": "a"}, []),
    ],
)  # fmt: skip
def test_values_that_cannot_both_be_meant(given: dict[str, Any], errors: list[str]) -> None:
    found = list(contradictions({"fine_tuner": given}))
    assert [problem.message for problem in found] == errors
    assert all(problem.severity == "error" and problem.fix for problem in found)


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"fine_tuner": {"full_finetuning": True, "rank": 8}}, "rank has no effect: full_finetuning is true and there is no adapter"),
        ({"fine_tuner": {"train_on_responses_only": False, "question_part": "q", "answer_part": None}}, None),
        ({"fine_tuner": {"device_validation_batch_size": 8}}, "device_validation_batch_size has no effect: there is no validation_data_id"),
        ({"run": {"sample_answers": 3}}, "sample_answers has no effect: there is no validation_data_id"),
        ({"fine_tuner": {"system_prompt_column": "s", "system_prompt_override_text": "t"}}, "system_prompt_column has no effect: system_prompt_override_text replaces it in every row"),
    ],
)  # fmt: skip
def test_keys_without_effect_are_warnings(given: dict[str, Any], warning: str | None) -> None:
    warnings = [problem.message for problem in contradictions(given) if problem.severity == "warning"]
    assert warnings == [warning or "question_part has no effect: train_on_responses_only is false"]


def test_push_and_savers_must_agree(load: Load) -> None:
    assert problems(load, 'push_to_hub = true\n[stages]\nsavers = ["local"]\n') == [
        "config.toml:4: push_to_hub is true and [stages] savers does not name hub: nothing would be pushed. "
        'Add "hub" to savers, or remove push_to_hub'
    ]
    assert problems(load, 'push_to_hub = false\n[stages]\nsavers = ["hub"]\n') == [
        "config.toml:4: push_to_hub is false and [stages] savers names hub, which pushes. Remove one of them"
    ]
    assert load('push_to_hub = true\n[stages]\nsavers = ["local", "hub"]\n').fine_tuner.push_to_hub


# Sections of plugins


class Kind(Enum):
    A = "a"


class Wide(Section):
    """A section with types that TOML does not have."""

    folder: Path = Path()
    names: tuple[str, ...] = ()
    kind: Kind | None = None
    number: int = 0


def test_types_that_toml_lacks_are_read_from_what_it_has() -> None:
    wide = Wide.model_validate({"folder": "some/where", "names": ["a", "b"], "kind": "a"})
    assert (wide.folder, wide.names, wide.kind) == (Path("some/where"), ("a", "b"), Kind.A)
    assert Wide.model_validate({"kind": "null", "folder": RawText("x")}).folder == Path("x")


@pytest.mark.parametrize("table", [{"number": "1"}, {"names": "a"}, {"kind": "b"}, {"folder": 3}, {"number": 1.0}])
def test_wider_types_stay_strict(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Wide.model_validate(table)


class Inner(Section):
    """A table in a section."""

    deep: int = 0
    url: str


class Outer(Section):
    """A section with tables in it."""

    inner: Inner | None = None
    by_name: dict[str, Inner] = {}
    many: list[Inner] = []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inner": {"deep": "x", "url": "u"}}, 'o.inner.deep = "x" is not allowed: it must be an integer'),
        ({"inner": {"deep": 1}}, "o.inner has no url, which is required"),
        ({"inner": {"url": "u", "dep": 1}}, "o.inner has no key 'dep'"),
        ({"inner": 3}, "o.inner = 3 is not allowed: it must be a table"),
        ({"by_name": {"a": {"url": 5}}}, "o.by_name.a.url = 5 is not allowed: it must be a text in quotes"),
        ({"by_name": {"a": 5}}, "o.by_name.a = 5 is not allowed: it must be a table"),
        (
            {"many": [{"url": "u"}, {"url": 5}]},
            'o.many = [{ url = "u" }, { url = 5 }] is not allowed: it must be a text in quotes (item 2)',
        ),
        ({"outer": {"deep": 1}}, "[o] has no key 'outer'"),
    ],
)
def test_problems_inside_tables_name_the_key(table: dict[str, Any], message: str) -> None:
    from ftcore.config import wording

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(table)
    assert [problem.message for problem in wording.problems("o", table, {"o": Outer}, caught.value)] == [message]


def test_tables_in_sections_are_read() -> None:
    outer = Outer.model_validate({"inner": {"url": "u"}, "many": [{"url": "v", "deep": 2}]})
    assert outer.inner == Inner(url="u")
    assert outer.many == [Inner(url="v", deep=2)]


def test_settings_cannot_be_changed(load: Load) -> None:
    with pytest.raises(ValidationError):
        load().fine_tuner.rank = 3  # type: ignore[misc]


def test_a_deep_table_behind_set_is_refused(load: Any) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        load("", "fine_tuner.loftq_config=" + "{a=" * 40 + "1" + "}" * 40)


def test_a_message_that_quotes_a_line_break_is_one_line(load: Any) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load('[hub]\nrepo_id = "a\\nb"\n')
    (line,) = caught.value.lines
    assert "\n" not in line
    assert "'a\\nb' has other characters" in line
