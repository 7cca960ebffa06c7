"""Configurations that are built on others: which value wins, where it stands, and what cannot be extended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcore.check import check
from ftcore.config import Config
from ftcore.config import load as load_config
from ftcore.errors import ConfigError, FtcoreError, InvalidConfig, PluginError
from ftcore.plugins import Plugins, discover
from ftcore.run import manifest, runs
from ftcore.run.reopen import reopen

REQUIRED = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n'
HEAD = "from pathlib import Path\nfrom ftcore import hookimpl\nfrom ftcore.errors import ConfigError\n@hookimpl\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files by their names into the working directory; the first one's path."""
    monkeypatch.chdir(tmp_path)

    def files(**texts: str) -> Path:
        for name, text in texts.items():
            path = Path(name.replace("__", "/")).with_suffix(".toml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Path(next(iter(texts)).replace("__", "/")).with_suffix(".toml")

    return files


def refused(path: Path, plugins: Plugins, *overrides: str, kind: type[FtcoreError] = ConfigError) -> list[str]:
    """The lines of the error that a configuration is refused with."""
    with pytest.raises(kind) as caught:
        load_config(path, plugins, overrides)
    return str(caught.value).splitlines()


# Which value wins


def test_the_file_wins_and_what_it_leaves_out_is_taken_from_the_other(write: Write, plugins: Plugins) -> None:
    path = write(
        config='extends = "base.toml"\n[fine_tuner]\ntraining_data_id = "d"\nrank = 8\n',
        base='[fine_tuner]\nbase_model_id = "m"\nrank = 4\nlora_dropout = 0.0\n[run]\nname = "x"\n',
    )
    config = load_config(path, plugins)
    assert (config.fine_tuner.base_model_id, config.fine_tuner.rank, config.fine_tuner.lora_dropout) == ("m", 8, 0.0)
    assert config.run.name == "x"
    assert config.was_given("run", "name")
    assert config.locate("fine_tuner.rank") == "config.toml:4"
    assert config.locate("fine_tuner.lora_dropout") == "base.toml:4"
    assert load_config(path, plugins, ["fine_tuner.lora_dropout=0.2"]).fine_tuner.lora_dropout == 0.2


def test_tables_are_merged_key_by_key_and_lists_replaced(write: Write, plugins: Plugins) -> None:
    path = write(
        config=f'extends = "base.toml"\n{REQUIRED}target_modules = ["v_proj"]\n[mlflow.tags]\nteam = "x"\n',
        base='[fine_tuner]\ntarget_modules = ["q_proj", "k_proj"]\n[mlflow]\ntags = { team = "y", org = "acme" }\n',
    )
    config = load_config(path, plugins)
    assert config.fine_tuner.target_modules == ["v_proj"]
    assert config.sections["mlflow"].model_dump()["tags"] == {"team": "x", "org": "acme"}
    assert config.locate("mlflow.tags.team") == "config.toml:7"
    assert config.locate("mlflow.tags.org") == "base.toml:4"


def test_null_takes_a_table_away(write: Write, plugins: Plugins) -> None:
    path = write(
        config='extends = "middle.toml"\nfine_tuner.loftq_config = { loftq_bits = 8 }\n',
        middle='extends = "base.toml"\n[fine_tuner]\nloftq_config = "null"\n',
        base=f"{REQUIRED}loftq_config = {{ loftq_bits = 4, loftq_iter = 2 }}\n",
    )
    assert load_config(path, plugins).fine_tuner.loftq_config == {"loftq_bits": 8}
    assert load_config(Path("middle.toml"), plugins).fine_tuner.loftq_config is None


def test_of_a_list_the_later_ones_win_and_each_brings_its_own(write: Write, plugins: Plugins) -> None:
    path = write(
        config=f'extends = ["a.toml", "b.toml"]\n{REQUIRED}',
        a='extends = "common.toml"\n[fine_tuner]\nrank = 1\nlora_alpha = 1\nseed = 1\n',
        b='extends = "common.toml"\n[fine_tuner]\nrank = 2\n',
        common="[fine_tuner]\nrank = 3\nlora_alpha = 3\nwarmup_steps = 3\n",
    )
    settings = load_config(path, plugins)
    own = settings.fine_tuner
    assert (own.rank, own.lora_alpha, own.seed, own.warmup_steps) == (2, 3, 1, 3)
    assert [layer.name for layer in settings.source.layers] == ["config.toml", "b.toml", "common.toml", "a.toml"]


def test_an_empty_list_extends_nothing(write: Write, plugins: Plugins) -> None:
    assert load_config(write(config=f"extends = []\n{REQUIRED}"), plugins).source.layers[1:] == []


def test_a_path_is_relative_to_the_file_that_it_stands_in(write: Write, plugins: Plugins, tmp_path: Path) -> None:
    path = write(
        team__runs__config=f'extends = "../team.toml"\n{REQUIRED}',
        team__team='extends = ["${ORG:-..}/org.toml"]\n[fine_tuner]\nseed = 1\n',
        org="[fine_tuner]\nrank = 3\n",
    )
    config = load_config(path, plugins)
    assert (config.fine_tuner.seed, config.fine_tuner.rank) == (1, 3)
    assert config.locate("fine_tuner.rank") == "team/runs/../../org.toml:2"
    absolute = write(config=f'extends = "{tmp_path}/org.toml"\n{REQUIRED}')
    assert load_config(absolute, plugins).fine_tuner.rank == 3


# Where things stand


def test_problems_name_the_file_and_line_in_which_the_value_stands(write: Write, plugins: Plugins) -> None:
    path = write(
        config='extends = "base.toml"\n[fine_tuner]\nrank = 0\nload_in_8bit = true\n',
        base='\n[fine_tuner]\nlora_alpha = 0\nrnak = 2\nrank = "x"\nload_in_4bit = true\nseed = "${NOBODY}"\n[hubb]\nx = 1\n',
    )
    assert refused(path, plugins) == [
        'config.toml:2: [fine_tuner] has no base_model_id, which is required. Add base_model_id = "…"',
        'config.toml:2: [fine_tuner] has no training_data_id, which is required. Add training_data_id = "…"',
        "config.toml:3: fine_tuner.rank = 0 is not allowed: it must be at least 1",
        "base.toml:3: fine_tuner.lora_alpha = 0 is not allowed: it must be more than 0",
        "base.toml:4: [fine_tuner] has no key 'rnak'. Did you mean rank?",
        "base.toml:6: load_in_4bit and load_in_8bit are both set: a model is quantized once. "
        "Remove load_in_4bit or load_in_8bit",
        "base.toml:7: fine_tuner.seed reads the environment variable NOBODY, which is not set. "
        "Set it, or give a default: ${NOBODY:-value}",
        "base.toml:8: the section [hubb] belongs to nothing that is installed. Did you mean [hub]?",
    ]


def test_keys_outside_of_sections_and_broken_toml_in_a_base_file(write: Write, plugins: Plugins) -> None:
    path = write(config=f'extends = "base.toml"\n{REQUIRED}', base="rank = 8\n")
    assert refused(path, plugins) == [
        "base.toml:1: the key 'rank' stands outside of any section. Put it under [fine_tuner]"
    ]
    write(base="[fine_tuner]\nrank = = 8\n")
    (line,) = refused(path, plugins)
    assert line.startswith("base.toml:2:8: not valid TOML: this is no value")


def test_variables_are_read_in_base_files_too(write: Write, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "32")
    path = write(config=f'extends = "base.toml"\n{REQUIRED}', base='[fine_tuner]\nrank = "${RANK}"\n')
    assert load_config(path, plugins).fine_tuner.rank == 32


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ('"none.toml"', 'config.toml:2: extends = "none.toml": there is no file none.toml. Check the path'),
        ('"."', 'config.toml:2: extends = ".": there is no file .. Check the path'),
        ("3", "config.toml:2: extends = 3 is not allowed: it must be a path, plugin:name, or a list of these"),
        ('[""]', 'config.toml:2: extends = [""] is not allowed: it must be a path, plugin:name, or a list of these'),
        ("{ a = 1 }", "config.toml:2: extends = { a = 1 } is not allowed: it must be a path, plugin:name, or a list of these"),
        ('"${NOBODY}.toml"', "config.toml:2: extends reads the environment variable NOBODY, which is not set. Set it, or give a default: ${NOBODY:-value}"),
        ('"config.toml"', 'config.toml:2: extends = "config.toml": it extends itself: config.toml → config.toml. Remove one of these'),
        ('"nobody:x"', 'config.toml:2: extends = "nobody:x" names no installed plugin. Install the plugin\'s package, or name a file'),
        ('"mlflow:x"', 'config.toml:2: extends = "mlflow:x" names a plugin without configurations: those that have some: none. Name a file'),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_is_one_line(write: Write, plugins: Plugins, value: str, line: str) -> None:
    path = write(config=f"\nextends = {value}\n{REQUIRED}")
    assert refused(path, plugins, kind=FtcoreError) == [line]


def test_a_circle_is_named(write: Write, plugins: Plugins) -> None:
    path = write(
        config=f'extends = "a.toml"\n{REQUIRED}', a='extends = "b.toml"\n', b='# again\nextends = "./a.toml"\n'
    )
    assert refused(path, plugins) == [
        'b.toml:2: extends = "./a.toml": it extends itself: a.toml → b.toml → a.toml. Remove one of these'
    ]


# A plugin's configurations


def test_a_plugin_answers_with_a_text_or_a_path(install: Any, write: Write) -> None:
    site = install(
        "acme",
        {
            "acme_bases": HEAD + "def ftcore_base_config(name):\n"
            "    if name == 'file': return Path(__file__).parent / 'acme.toml'\n"
            "    if name == 'text': return 'extends = \"acme:common\"\\n[fine_tuner]\\nrank = 9\\nlora_alpha = 0\\n'\n"
            "    if name == 'common': return '[fine_tuner]\\nseed = 9\\n'\n"
            "    if name == 'lost': return 'extends = \"other.toml\"\\n'\n"
            "    if name == 'circle': return 'extends = \"acme:circle\"\\n'\n"
            "    if name == 'endless' or name.isdigit(): return f'extends = \"acme:{int(name) + 1 if name.isdigit() else 0}\"\\n'\n"
            "    if name == 'number': return 3\n"
            "    if name == 'raises': return 1 / 0\n"
            "    raise ConfigError('Acme has no such configuration', fix='Name file or text')\n"
        },
        {"acme": "acme_bases"},
    )
    (site / "acme.toml").write_text("[fine_tuner]\nrank = 7\nchat_template = 'acme.jinja'\n")
    (site / "acme.jinja").write_text("{{ messages }}")
    plugins = discover()

    def extending(text: str) -> Path:
        return write(config=f'extends = "acme:{text}"\n{REQUIRED}')

    config = load_config(extending("file"), plugins)
    assert config.fine_tuner.rank == 7
    assert config.locate("fine_tuner.rank") == f"{site}/acme.toml:2"
    assert config.folder("fine_tuner.chat_template") == site
    _, warnings = check(config, plugins)  # the template lies beside the plugin's file
    assert not [warning for warning in warnings if "acme" in warning]

    path = extending("text")
    assert load_config(path, plugins, ["fine_tuner.lora_alpha=1"]).fine_tuner.seed == 9
    assert refused(path, plugins) == ["acme:text:4: fine_tuner.lora_alpha = 0 is not allowed: it must be more than 0"]
    saying = 'config.toml:1: extends = "acme:'
    assert refused(extending("x"), plugins) == [f'{saying}x": Acme has no such configuration. Name file or text']
    assert refused(extending("lost"), plugins) == [
        'acme:lost:1: extends = "other.toml" is a relative path: acme:lost is the text of a plugin, which lies in no '
        "folder. Report it to the plugin's authors"
    ]
    assert refused(extending("circle"), plugins) == [
        'acme:circle:1: extends = "acme:circle": it extends itself: acme:circle → acme:circle. Remove one of these'
    ]
    assert refused(extending("endless"), plugins) == [
        "config.toml is built on more than 31 others. Put some of them together"
    ]
    assert refused(extending("number"), plugins, kind=PluginError) == [
        "plugin 'acme' (acme 1.2.3) broke its contract: ftcore_base_config must return a Path or a text and returned "
        "a int. Report it to its authors, or choose another plugin"
    ]
    assert refused(extending("raises"), plugins, kind=PluginError)[0].startswith(
        "plugin 'acme' (acme 1.2.3) failed in ftcore_base_config: ZeroDivisionError: division by zero"
    )
    assert refused(extending("text"), discover(disabled=["acme"]), kind=PluginError) == [
        f"{saying}text\" names a plugin that is disabled: plugin 'acme' (acme 1.2.3): named in FTCORE_DISABLE. "
        "Take acme out of FTCORE_DISABLE"
    ]


# Data beside a base file, and the run


def test_relative_paths_are_looked_up_beside_the_file_that_has_them(
    write: Write, plugins: Plugins, tmp_path: Path
) -> None:
    path = write(
        runs_of_mine__config='extends = "../shared/base.toml"\n[fine_tuner]\nvalidation_data_id = "v.jsonl"\n[run]\nname = "r"\n',
        shared__base='[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "t.jsonl"\n',
    )
    Path("shared/t.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    Path("runs_of_mine/v.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    config = load_config(path, plugins)
    assert config.folder("fine_tuner.training_data_id") == Path("runs_of_mine/../shared")
    assert config.folder("fine_tuner.validation_data_id") == Path("runs_of_mine")
    selected, _ = check(config, plugins)
    assert [choice.why for choice in selected if choice.stage == "data"] == [
        'training_data_id: "t.jsonl" is a path that exists',
        'validation_data_id: "v.jsonl" is a path that exists',
    ]
    overridden = load_config(path, plugins, ["fine_tuner.training_data_id=v.jsonl"])
    assert overridden.folder("fine_tuner.training_data_id") == Path("runs_of_mine")

    facts = manifest.first_manifest("r", config, plugins, selected, _now())
    assert facts["config_folders"]["fine_tuner.training_data_id"] == str(tmp_path / "runs_of_mine/../shared")
    assert facts["origins"]["fine_tuner.training_data_id"] == "runs_of_mine/../shared/base.toml:3"
    active = runs.create(config, plugins, selected, "r", _now())
    active.close()
    again = reopen(active.dir, plugins)
    again.active.close()
    folder = again.config.folder("fine_tuner.training_data_id")
    assert (folder / "t.jsonl").exists()
    assert "extends" not in (active.dir / "config.toml").read_text()


def _now() -> Any:
    from datetime import datetime

    return datetime(2026, 11, 23, 12).astimezone()


# Origins


@pytest.fixture
def shown(write: Write, ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`ftcore check --origins` of a configuration with values from everywhere."""
    monkeypatch.setenv("EPOCHS", "3")
    monkeypatch.setenv("MY_PASSWORD", "correct-horse")
    path = write(
        config=f'extends = "base.toml"\n{REQUIRED}rank = 8\nload_in_8bit = true\n[mlflow]\nrun_name = "r"\n'
        'tags = { team = "x" }\ntracking_uri = "http://me:${MY_PASSWORD}@host"\n',
        base='[fine_tuner]\nepochs = "${EPOCHS}"\nseed = "${SEED:-7}"\n[mlflow.tags]\norg = "acme"\n',
    )

    def run(*options: str) -> Any:
        return ftcore("check", str(path), "--origins", "--set", "fine_tuner.lora_alpha=4", *options)

    return run


def test_every_value_says_where_it_comes_from(shown: Any, plugins: Config) -> None:
    outcome = shown()
    assert outcome.code == 0
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    for line in (
        "rank = 8 # config.toml:5",
        "epochs = 3 # base.toml:2, from EPOCHS in the environment",
        "seed = 7 # base.toml:3",
        "lora_alpha = 4 # --set fine_tuner.lora_alpha",
        "lora_dropout = 0.1 # ftcore's default",
        "load_in_4bit = false # it follows from other keys",
        'name = "r" # mlflow.run_name, config.toml:8',
        'tags.team = "x" # config.toml:9',
        'tags.org = "acme" # base.toml:5',
        "experiment_name = \"ftcore\" # the default of the plugin 'mlflow'",
        'tracking_uri = "http://***@host" # config.toml:10, from MY_PASSWORD in the environment',
    ):
        assert line in lines
    assert "correct-horse" not in outcome.out
    keys = sum(len(type(getattr(load_config(Path("config.toml"), discover(), ()), name)).model_fields) for name in ("fine_tuner", "stages", "run", "audit"))  # fmt: skip
    assert len([line for line in lines if " # " in line]) > keys


def test_origins_for_programs(shown: Any) -> None:
    facts = json.loads(shown("--json").out)
    assert facts["files"] == ["config.toml", "base.toml"]
    values = {value["where"]: value for value in facts["values"]}
    assert values["fine_tuner.epochs"] == {
        "where": "fine_tuner.epochs",
        "value": 3,
        "kind": "extended",
        "place": "base.toml:2",
        "environment": ["EPOCHS"],
        "locked": "",
        "reason": "",
    }
    kinds = {where: values[where]["kind"] for where in ("fine_tuner.rank", "fine_tuner.lora_alpha", "run.name", "run.output_dir", "sft.fast_cpu")}  # fmt: skip
    assert [*kinds.values()] == ["file", "set", "derived", "default", "plugin"]
    assert "correct-horse" not in json.dumps(facts)


def test_json_goes_without_the_data(ftcore: Any) -> None:
    outcome = ftcore("check", "c.toml", "--json", "--data")
    assert outcome.code == 2
    assert "--json goes without --data" in outcome.err


def test_an_invalid_configuration_has_no_origins(write: Write, plugins: Plugins) -> None:
    path = write(config=f"{REQUIRED}rank = 0\n")
    with pytest.raises(InvalidConfig):
        load_config(path, plugins)
