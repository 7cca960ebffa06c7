"""Installed packages with real entry points: which plugins work, which are broken and why, and who is called."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import Prepared, Reporter
from ftcore.errors import DataError, PluginError
from ftcore.plugins import PluginRecord, Plugins, discover
from ftcore.plugins.selection import Choice

HEAD = (
    "from ftcore import hookimpl\nfrom ftcore.errors import DataError, Problem\nfrom ftcore.settings import Section\n"
)
NAMER = HEAD + "@hookimpl\ndef ftcore_name_run(config):\n    return 'acme'\n"


def record_of(plugins: Plugins, name: str = "acme") -> PluginRecord:
    record = plugins.get(name)
    assert record is not None
    return record


def test_a_plugin_is_found_with_its_distribution_hooks_and_stages(install: Any) -> None:
    install("Acme-FTcore", {"acme_one": NAMER}, {"acme": "acme_one"}, version="2.0", requires=["ftcore>=0.1", "click"])
    plugins = discover()
    record = record_of(plugins)
    assert str(record) == "plugin 'acme' (Acme-FTcore 2.0)"
    assert (record.state, record.reason, record.hooks, record.stages) == ("ok", "", ("ftcore_name_run",), ("namer",))
    assert "acme" in plugins.serving("namer")
    assert plugins.implementing("ftcore_name_run")[-1] == "naming"
    assert plugins.call("ftcore_name_run", "acme", config=None, started_at=None, settings=None) == "acme"


def test_an_object_of_a_module_can_be_the_plugin(install: Any) -> None:
    source = HEAD + "class P:\n    @hookimpl\n    def ftcore_name_run(self):\n        return 'p'\nplugin = P()\n"
    install("acme", {"acme_object": source}, {"acme": "acme_object:plugin"})
    plugins = discover()
    assert plugins.call("ftcore_name_run", "acme", config=None, started_at=None, settings=None) == "p"


BROKEN = {
    "import error": ("import no_such_module_here\n", "its import failed: ModuleNotFoundError: No module named 'no_such_module_here'"),
    "any error": ("1 / 0\n", "its import failed: ZeroDivisionError: division by zero"),
    "syntax error": ("def broken(:\n", "its import failed: SyntaxError: invalid syntax (acme_broken.py, line 1)"),
    "exit": ("import sys; sys.exit(3)\n", "its import failed: SystemExit: 3"),
    "unknown hook": (HEAD + "@hookimpl\ndef ftcore_nmae_run(): ...\n", "ftcore_nmae_run is not a hook of ftcore. Did you mean ftcore_name_run?"),
    "unknown argument": (HEAD + "@hookimpl\ndef ftcore_name_run(config, extra): ...\n", "ftcore_name_run takes 'extra', which is no argument of that hook (config, started_at, settings)"),
    "argument of a hook without any": (HEAD + "@hookimpl\ndef ftcore_settings(config): ...\n", "ftcore_settings takes 'config', which is no argument of that hook (it has none)"),
    "default": (HEAD + "@hookimpl\ndef ftcore_name_run(config=None): ...\n", "ftcore_name_run gives 'config' a default, which would replace the real value"),
    "keyword only": (HEAD + "@hookimpl\ndef ftcore_name_run(*, config): ...\n", "ftcore_name_run takes 'config' by keyword only, and hooks are called by position"),
    "star": (HEAD + "@hookimpl\ndef ftcore_name_run(**all): ...\n", "ftcore_name_run takes '*all', which would stay empty; name the arguments (config, started_at, settings)"),
    "specname": (HEAD + "@hookimpl(specname='ftcore_name_run')\ndef other(): ...\n", "other uses specname=, which selection cannot see; name the function ftcore_name_run"),
    "async": (HEAD + "@hookimpl\nasync def ftcore_name_run(): ...\n", "ftcore_name_run is async, and hooks are called without an event loop"),
    "no hooks": (HEAD + "def name_run(): ...\n", "it implements no hook"),
    "no mark": (HEAD + "def ftcore_name_run(): ...\n", "it implements no hook: ftcore_name_run is not marked with @ftcore.hookimpl"),
    "wrapper without yield": (HEAD + "@hookimpl(wrapper=True)\ndef ftcore_name_run(): ...\n", "Plugin 'acme' for hook 'ftcore_name_run' hookimpl definition: ftcore_name_run() Declared as wrapper=True or hookwrapper=True but function is not a generator function"),
    "settings that raise": (HEAD + "@hookimpl\ndef ftcore_settings(): raise ValueError('no')\n", "its ftcore_settings failed: ValueError: no"),
    "settings of a wrong type": (HEAD + "@hookimpl\ndef ftcore_settings(): return {'a': 1}\n", "its ftcore_settings must return a class derived from ftcore.settings.Section and returned a dict"),
    "settings of a wrong class": (HEAD + "@hookimpl\ndef ftcore_settings(): return int\n", "its ftcore_settings must return a class derived from ftcore.settings.Section and returned int"),
    "settings instance": (HEAD + "class S(Section): ...\n@hookimpl\ndef ftcore_settings(): return S()\n", "its ftcore_settings must return a class derived from ftcore.settings.Section and returned a S"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_recorded_and_takes_nobody_down(install: Any, what: str) -> None:
    source, reason = BROKEN[what]
    install("acme", {"acme_broken": source, "acme_good": NAMER}, {"acme": "acme_broken", "zgood": "acme_good"})
    plugins = discover()
    record = record_of(plugins)
    assert record.state == "broken"
    assert record.reason.startswith(reason)
    assert "\n" not in record.reason
    assert record.hooks == record.stages == ()
    assert record_of(plugins, "zgood").state == "ok"
    assert record_of(plugins, "local").state == "ok"
    assert "acme" not in plugins.sections
    assert not plugins.manager.has_plugin("acme")


def test_settings_that_cannot_be_described_are_broken(install: Any) -> None:
    source = HEAD + (
        "class Odd: ...\nclass S(Section):\n    model_config = {'arbitrary_types_allowed': True}\n    odd: Odd = Odd()\n"
        "@hookimpl\ndef ftcore_settings(): return S\n"
    )
    install("acme", {"acme_odd": source}, {"acme": "acme_odd"})
    assert record_of(discover()).reason.startswith("the fields of its settings cannot be described: ")


def test_a_class_instead_of_an_instance_is_broken(install: Any) -> None:
    source = HEAD + "class P:\n    @hookimpl\n    def ftcore_name_run(self): ...\n"
    install("acme", {"acme_class": source}, {"acme": "acme_class:P"})
    assert record_of(discover()).reason == (
        "ftcore_name_run takes 'self': the entry point names a class; name an instance of it"
    )


def test_an_object_that_cannot_be_hashed_is_broken(install: Any) -> None:
    source = HEAD + (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    @hookimpl\n    def ftcore_name_run(self): ...\n"
        "plugin = P()\n"
    )
    install("acme", {"acme_object": source}, {"acme": "acme_object:plugin"})
    assert record_of(discover()).reason == (
        "its object, a P, cannot be hashed; make its class a frozen dataclass, or eq=False"
    )


def test_one_name_in_two_distributions_is_broken_and_names_both(install: Any) -> None:
    install("acme-a", {"acme_a": NAMER}, {"acme": "acme_a"})
    install("acme-b", {"acme_b": NAMER}, {"acme": "acme_b"})
    plugins = discover()
    assert record_of(plugins).reason == "acme-a and acme-b both provide a plugin named 'acme'"
    assert "acme" not in plugins.implementing("ftcore_name_run")
    assert record_of(plugins).stages == ()


def test_one_module_under_two_names_is_the_first_one(install: Any) -> None:
    install("acme", {"acme_same": NAMER}, {"acme": "acme_same", "beta": "acme_same"})
    plugins = discover()
    assert record_of(plugins).state == "ok"
    assert record_of(plugins, "beta").reason == "acme_same is the plugin 'acme' already"


def test_a_plugin_for_a_newer_ftcore_is_not_even_imported(install: Any) -> None:
    from ftcore import __version__

    install("acme", {"acme_new": "1 / 0"}, {"acme": "acme_new"}, requires=["ftcore[train]>=99 ; python_version>'3'"])
    assert record_of(discover()).reason == f"it needs ftcore>=99 and this is {__version__}"
    assert "acme_new" not in sys.modules


def test_a_requirement_of_an_extra_does_not_count(install: Any) -> None:
    install("acme", {"acme_extra": NAMER}, {"acme": "acme_extra"}, requires=["ftcore>=99 ; extra == 'test'"])
    assert record_of(discover()).state == "ok"


@pytest.mark.parametrize("name", ["auto", "none", "fine_tuner", "run", "stages"])
def test_reserved_names_are_broken(install: Any, name: str) -> None:
    install("acme", {"acme_reserved": NAMER}, {name: "acme_reserved"})
    assert record_of(discover(), name).reason.startswith(f"the name '{name}' is reserved: ")


def test_a_plugin_with_a_reserved_name_is_not_taken_for_the_section(install: Any, ftcore: Any, tmp_path: Path) -> None:
    install("acme", {"acme_reserved": NAMER}, {"run": "acme_reserved"})
    config = tmp_path / "config.toml"
    config.write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "t"\n[run]\nname = "first"\n')
    outcome = ftcore("check", str(config))
    assert "the name 'run' is reserved" in outcome.out + outcome.err
    assert "[run] has no effect" not in outcome.out + outcome.err


@pytest.mark.parametrize("name", ["a.b", "ä", "_a", "a b"])
def test_names_with_other_characters_are_broken(install: Any, name: str) -> None:
    install("acme", {"acme_chars": NAMER}, {name: "acme_chars"})
    assert record_of(discover(), name).reason == (
        f"the name '{name}' has other characters than letters, digits, '-' and '_'"
    )


def test_unreadable_entry_points_of_a_package_are_a_warning(install: Any, caplog: pytest.LogCaptureFixture) -> None:
    install("junk", {}, entry_points_text="[ftcore]\nno equals sign here\n")
    with caplog.at_level(logging.WARNING):
        plugins = discover()
    assert record_of(plugins, "local").state == "ok"
    assert "the entry points of an installed package cannot be read" in caplog.text


def test_the_environment_disables_plugins(
    install: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install("acme-a", {"acme_dis": "1 / 0"}, {"acme": "acme_dis"})
    install("acme-b", {"acme_dis2": "1 / 0"}, {"acme": "acme_dis2"})
    monkeypatch.setenv("FTCORE_DISABLE", " acme, wandb ,nobody,mlfow,")
    with caplog.at_level(logging.WARNING):
        plugins = discover()
    assert (record_of(plugins).state, record_of(plugins).reason) == ("disabled", "named in FTCORE_DISABLE")
    assert record_of(plugins, "wandb").state == "disabled"
    assert "wandb" not in plugins.serving("reporter")
    assert [entry.getMessage() for entry in caplog.records] == [
        "FTCORE_DISABLE names 'mlfow', which is no installed plugin. Did you mean 'mlflow'?",
        "FTCORE_DISABLE names 'nobody', which is no installed plugin. `ftcore plugins` lists them",
    ]
    assert discover(disabled=["hub"]).get("hub").state == "disabled"  # type: ignore[union-attr]


# Calls


def call_name_run(plugins: Plugins, name: str) -> Any:
    return plugins.call("ftcore_name_run", name, config=None, started_at=None, settings=None)


def test_a_selected_call_reaches_only_the_chosen_plugin_within_everybodys_wrappers(install: Any) -> None:
    install(
        "acme",
        {
            "acme_x": HEAD + "seen = []\n@hookimpl\ndef ftcore_name_run():\n    seen.append(1)\n    return 'x'\n",
            "acme_y": HEAD + "seen = []\n@hookimpl\ndef ftcore_name_run():\n    seen.append(1)\n    return 'y'\n",
            "acme_w": HEAD
            + "@hookimpl(wrapper=True)\ndef ftcore_name_run():\n    name = yield\n    return f'<{name}>'\n",
        },
        {"x1": "acme_x", "y1": "acme_y", "w1": "acme_w"},
    )
    plugins = discover()
    assert call_name_run(plugins, "y1") == "<y>"
    assert sys.modules["acme_y"].seen == [1]
    assert sys.modules["acme_x"].seen == []
    wrapper = record_of(plugins, "w1")
    assert (wrapper.state, wrapper.hooks, wrapper.wraps, wrapper.stages) == ("ok", (), ("ftcore_name_run",), ())
    assert "w1" not in plugins.implementing("ftcore_name_run")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise ValueError('bad')", "ValueError: bad"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'"),
    ],
)
def test_what_a_hook_raises_is_blamed_on_its_plugin(install: Any, body: str, why: str) -> None:
    install("acme", {"acme_raise": HEAD + f"@hookimpl\ndef ftcore_name_run():\n    {body}\n"}, {"acme": "acme_raise"})
    with pytest.raises(PluginError) as caught:
        call_name_run(discover(), "acme")
    assert str(caught.value) == (
        f"plugin 'acme' (acme 1.2.3) failed in ftcore_name_run: {why}. Report it to its authors"
    )


def test_a_plugins_own_errors_pass_unchanged(install: Any) -> None:
    source = HEAD + "@hookimpl\ndef ftcore_name_run():\n    raise DataError('mine', fix='Do')\n"
    install("acme", {"acme_own": source}, {"acme": "acme_own"})
    with pytest.raises(DataError, match=r"^mine\. Do$"):
        call_name_run(discover(), "acme")


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        ("None", "None"),
        ("3", "a int without start, log, artifact, finish"),
        ("Partial()", "a Partial without artifact, finish"),
        ("Whole", "the class Whole, not an instance of it"),
    ],
)
def test_wrong_answers_name_plugin_distribution_and_version(install: Any, returned: str, got: str) -> None:
    source = HEAD + (
        "class Partial:\n    def start(self): ...\n    def log(self): ...\n"
        "class Whole(Partial):\n    def artifact(self): ...\n    def finish(self): ...\n"
        f"@hookimpl\ndef ftcore_make_reporter():\n    return {returned}\n"
    )
    install("acme", {"acme_wrong": source}, {"acme": "acme_wrong"}, version="0.9")
    with pytest.raises(PluginError) as caught:
        discover().expect(Reporter, "ftcore_make_reporter", "acme", run=None, settings=None)
    assert str(caught.value) == (
        f"plugin 'acme' (acme 0.9) broke its contract: ftcore_make_reporter must return a Reporter and returned {got}. "
        "Report it to its authors, or choose another plugin"
    )


TRAINER = (
    HEAD
    + """
from ftcore.contracts import Prepared
class T:
    def prepare(self, examples): return examples
    def attach(self, model, prepared, observer): ...
    def evaluate(self): return 0.5
    def fit(self, resume_from): return None
    def generate(self, conversations, max_new_tokens): ...
@hookimpl
def ftcore_make_trainer(): return T()
@hookimpl
def ftcore_save(trained): return trained
"""
)


def test_wrong_answers_of_a_trainers_methods_name_the_plugin(install: Any, load: Any) -> None:
    from ftcore.run.stages import Stages

    install("acme", {"acme_trainer": TRAINER}, {"acme": "acme_trainer"})
    run: Any = None
    trainer = Stages(load(), discover(), [Choice("trainer", "acme", "")]).trainer(run)
    rows: Any = [[1, 2]]
    for said, call in {
        "prepare must return a Prepared and returned None": lambda: trainer.prepare(run),
        "a datasets.Dataset as train and returned a list": lambda: trainer.prepare(Prepared(rows, None)),  # type: ignore[arg-type]
        "evaluate must return a Mapping and returned a float": trainer.evaluate,
        "fit must return a FitResult and returned None": lambda: trainer.fit(None),
    }.items():
        with pytest.raises(PluginError, match=rf"plugin 'acme' \(acme 1.2.3\) broke its contract: .*{said}"):
            call()


@pytest.mark.parametrize(
    ("answer", "got"), [(None, "None"), ([], r"\[\]"), ("there", "a str"), (True, "a bool"), ([1], "a list")]
)
def test_wrong_answers_of_savers_name_the_plugin(install: Any, load: Any, answer: Any, got: str) -> None:
    from ftcore.run.stages import Stages

    install("acme", {"acme_trainer": TRAINER}, {"acme": "acme_trainer"})
    run: Any = None
    with pytest.raises(PluginError, match=f"'acme' .* ftcore_save must say what it saved and where, .* returned {got}"):
        Stages(load(), discover(), []).save("acme", run, answer)


def test_right_answers_pass(install: Any) -> None:
    source = HEAD + (
        "class R:\n    def start(self): ...\n    def log(self): ...\n    def artifact(self): ...\n    def finish(self): ...\n"
        "@hookimpl\ndef ftcore_make_reporter():\n    return R()\n@hookimpl\ndef ftcore_resolve_model():\n    return 3\n"
    )
    install("acme", {"acme_right": source}, {"acme": "acme_right"})
    plugins = discover()
    assert type(plugins.expect(Reporter, "ftcore_make_reporter", "acme", run=None, settings=None)).__name__ == "R"
    with pytest.raises(PluginError, match="must return a str and returned a int"):
        plugins.expect(str, "ftcore_resolve_model", "acme", locator=None, settings=None)


def test_lists_are_taken_apart_only_where_the_hook_is_for_everyone(install: Any) -> None:
    source = HEAD + (
        "@hookimpl\ndef ftcore_check():\n    return [Problem('a', 'b')]\n"
        "@hookimpl\ndef ftcore_save():\n    return ['one']\n@hookimpl\ndef ftcore_run_started():\n    pass\n"
    )
    install("acme", {"acme_list": source}, {"acme": "acme_list"})
    plugins = discover()
    assert [problem.message for problem in plugins.call("ftcore_check", "acme", config=None, settings=None)] == ["b"]
    assert plugins.call("ftcore_save", "acme", run=None, trained=None, held_out=None, saving=None, settings=None) == [
        "one"
    ]
    assert plugins.call("ftcore_run_started", "acme", run=None, settings=None) is None


# What the configuration names


def require(plugins: Plugins, stage: str, name: str) -> str:
    with pytest.raises(PluginError) as caught:
        plugins.require(stage, name, "c.toml:3: report_to")
    return str(caught.value)


def test_naming_a_plugin_that_cannot_serve_is_an_error_with_a_way_out(install: Any) -> None:
    install("acme", {"acme_req": "1 / 0"}, {"acme": "acme_req"})
    plugins = discover(disabled=["wandb"])
    assert require(plugins, "reporter", "mlfow") == (
        'c.toml:3: report_to = "mlfow" names no installed plugin: plugins that serve the stage reporter here: '
        'mlflow, tensorboard. Did you mean "mlflow"?'
    )
    if plugins.get("unsloth") is None:
        assert require(plugins, "loader", "unsloth").endswith("Type pip install 'ftcore[unsloth]'")
    assert require(plugins, "reporter", "zzz").endswith(
        "Install the plugin's package, or choose one of these; `ftcore plugins` lists them"
    )
    assert require(plugins, "reporter", "acme") == (
        "c.toml:3: report_to = \"acme\" names a plugin that is broken: plugin 'acme' (acme 1.2.3): "
        "its import failed: ZeroDivisionError: division by zero. Update or reinstall its package"
    )
    assert require(plugins, "reporter", "wandb").endswith("named in FTCORE_DISABLE. Take wandb out of FTCORE_DISABLE")
    assert "names a plugin that does not serve the stage reporter" in require(plugins, "reporter", "local")


CONFIG = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n'


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG, encoding="utf-8")
    return Path("c.toml")


def test_a_broken_plugin_is_one_warning_line_unless_it_is_named(install: Any, config_file: Path, ftcore: Any) -> None:
    install("acme", {"acme_bad": "1 / 0"}, {"acme": "acme_bad"})
    warning = "plugin 'acme' (acme 1.2.3) is broken: its import failed: ZeroDivisionError: division by zero"
    good = ftcore("check", "c.toml")
    assert good.code == 0
    assert [line for line in good.errors if "acme" in line] == [f"warning: {warning}"]
    named = ftcore("check", "c.toml", "--set", "fine_tuner.report_to=acme")
    assert named.code == 3
    assert named.errors == [
        'error: --set fine_tuner.report_to: report_to = "acme" names a plugin that is broken: '
        "plugin 'acme' (acme 1.2.3): its import failed: ZeroDivisionError: division by zero. "
        "Update or reinstall its package"
    ]
    section = ftcore("check", "c.toml", "--set", "acme.x=1")
    assert section.code == 2
    assert section.errors == [
        f"error: --set acme.x: the section [acme] cannot be used: {warning}. Update or reinstall its package, or remove the section"
    ]


def test_several_plugins_that_cannot_serve_are_named_together(config_file: Path, ftcore: Any) -> None:
    outcome = ftcore("check", "c.toml", "--set", "stages.launcher=moon", "--set", "fine_tuner.report_to=wnadb")
    assert outcome.code == 3
    assert len(outcome.errors) == 2
    assert outcome.errors[0].startswith('error: --set stages.launcher: [stages] launcher = "moon" names no installed')
    assert outcome.errors[1].endswith('Did you mean "wandb"?')


@pytest.mark.parametrize("body", ["raise ValueError('oops')", "yield 3", "yield 1 / 0", "return 5"])
def test_a_check_that_fails_is_a_warning_unless_its_plugin_is_used(
    install: Any, config_file: Path, ftcore: Any, body: str
) -> None:
    source = HEAD + f"@hookimpl\ndef ftcore_check():\n    {body}\n@hookimpl\ndef ftcore_make_reporter(): ...\n"
    install("acme", {"acme_check": source}, {"acme": "acme_check"})
    idle = ftcore("check", "c.toml")
    assert idle.code == 0
    (line,) = [line for line in idle.errors if "acme" in line]
    assert line.startswith("c.toml: warning: plugin 'acme' (acme 1.2.3) ")
    used = ftcore("check", "c.toml", "--set", "fine_tuner.report_to=acme")
    assert used.code == 2
    assert next(line for line in used.errors if "acme" in line).startswith("error: c.toml: plugin 'acme' (acme 1.2.3) ")


def test_problems_of_plugins_have_places_and_severities(install: Any, config_file: Path, ftcore: Any) -> None:
    source = HEAD + (
        "@hookimpl\ndef ftcore_check(config):\n"
        "    yield Problem('fine_tuner.base_model_id', 'I dislike it', 'Take mine', 'warning')\n"
        "    if config.was_given('run', 'name'):\n        yield Problem('run.name', 'no names')\n"
    )
    install("acme", {"acme_probs": source}, {"acme": "acme_probs"})
    assert "c.toml:2: warning: I dislike it. Take mine" in ftcore("check", "c.toml").errors
    failed = ftcore("check", "c.toml", "--set", "run.name=x")
    assert (failed.code, failed.errors) == (2, ["error: --set run.name: no names"])


def test_required_keys_of_a_plugin_matter_only_where_it_is_used(install: Any, config_file: Path, ftcore: Any) -> None:
    source = HEAD + (
        "class S(Section):\n    url: str\n    'Where.'\n@hookimpl\ndef ftcore_settings():\n    return S\n"
        "@hookimpl\ndef ftcore_check(settings):\n    assert settings.url\n"
        "@hookimpl\ndef ftcore_make_reporter(): ...\n"
    )
    install("acme", {"acme_req_key": source}, {"acme": "acme_req_key"})
    assert not [line for line in ftcore("check", "c.toml").errors if "acme" in line]
    used = ftcore("check", "c.toml", "--set", "fine_tuner.report_to=acme")
    assert (used.code, used.errors) == (
        2,
        ['error: c.toml: [acme] has no url, which is required. Add url = "…"'],
    )
    assert ftcore("check", "c.toml", "--set", "fine_tuner.report_to=acme", "--set", "acme.url=u").code == 0


def test_a_section_without_a_part_in_the_run_is_a_warning(config_file: Path, ftcore: Any) -> None:
    outcome = ftcore("check", "c.toml", "--set", "mlflow.experiment_name=x", "--set", "mlflow.run_name=y")
    (line,) = [line for line in outcome.errors if "[mlflow]" in line]
    assert line.startswith("--set mlflow.experiment_name: warning: [mlflow] has no effect: plugin 'mlflow' (ftcore ")
    assert line.endswith("serves reporter, and this run does not use it")
    assert not [line for line in ftcore("check", "c.toml", "--set", "mlflow.run_name=y").errors if "[mlflow]" in line]
    used = ftcore("check", "c.toml", "--set", "mlflow.experiment_name=x", "--set", "fine_tuner.report_to=mlflow")
    assert not [line for line in used.errors if "[mlflow]" in line]


# Commands


COMMAND = HEAD + (
    "import click\n@hookimpl\ndef ftcore_register_commands(cli):\n"
    "    @cli.command()\n    @click.argument('name')\n    def greet(name):\n        'Say hello.'\n"
    "        click.echo(f'hello {name}')\n"
    "    @cli.command('check')\n    def shadow():\n        click.echo('not me')\n"
)


def test_plugins_add_commands_but_replace_none(install: Any, ftcore: Any, config_file: Path) -> None:
    install(
        "acme",
        {"acme_cmd": COMMAND, "acme_cmd_bad": HEAD + "@hookimpl\ndef ftcore_register_commands():\n    1 / 0\n"},
        {"acme": "acme_cmd", "bad": "acme_cmd_bad"},
    )
    outcome = ftcore("greet", "you")
    assert (outcome.code, outcome.out) == (0, "hello you\n")
    assert outcome.errors == [
        "warning: plugin 'bad' (acme 1.2.3) failed in ftcore_register_commands: "
        "ZeroDivisionError: division by zero. Report it to its authors",
        "warning: plugin 'acme' (acme 1.2.3) cannot replace ftcore's command 'check'",
    ]
    assert "is valid" in ftcore("check", "c.toml").out


def test_plugins_are_loaded_for_unknown_commands_only(install: Any, tmp_path: Path) -> None:
    mark = tmp_path / "loaded"
    site = install("acme", {"acme_mark": f"open({str(mark)!r}, 'w').close()\n" + COMMAND}, {"acme": "acme_mark"})
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ftcore", *arguments], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "Commands:" in run("--help")
    assert "Fine-tune a model" in run("run", "--help")
    assert run("--version").startswith("ftcore")
    assert not mark.exists()
    assert run("greet", "me") == "hello me\n"
    assert mark.exists()


# Broadcasts


def test_one_listener_that_fails_does_not_keep_the_others_from_hearing(install: Any, load: Any, tmp_path: Path) -> None:
    from ftcore.run.stages import Stages

    hear = HEAD + "heard = []\n@hookimpl\ndef ftcore_run_started(run):\n    heard.append(run)\n"
    fail = HEAD + "@hookimpl\ndef ftcore_run_started(run):\n    raise OSError('deaf')\n"
    install(
        "acme", {"acme_l1": hear, "acme_l2": fail, "acme_l3": hear}, {"l1": "acme_l1", "l2": "acme_l2", "l3": "acme_l3"}
    )

    class Told:
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, text: str) -> None:
            self.warnings.append(text)

    run: Any = Told()
    Stages(load(), discover(), []).everyone("ftcore_run_started", run=run)
    assert sys.modules["acme_l1"].heard == sys.modules["acme_l3"].heard == [run]
    assert run.warnings == [
        "plugin 'l2' (acme 1.2.3) failed in ftcore_run_started: OSError: deaf. Report it to its authors"
    ]


# `ftcore plugins`


def test_the_list_shows_every_plugin_and_why_one_is_broken(
    install: Any, ftcore: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme", {"acme_list1": NAMER, "acme_list2": "1 / 0"}, {"good": "acme_list1", "worse": "acme_list2"})
    monkeypatch.setenv("FTCORE_DISABLE", "wandb")
    outcome = ftcore("plugins")
    assert outcome.code == 0
    rows = {line.split()[0]: line.split() for line in outcome.out.splitlines()}
    assert rows["NAME"] == ["NAME", "PACKAGE", "VERSION", "STATE", "IMPORT", "STAGES", "HOOKS"]
    assert rows["good"][:4] + rows["good"][5:] == ["good", "acme", "1.2.3", "ok", "namer", "name_run"]
    assert "worse is broken: its import failed: ZeroDivisionError: division by zero" in outcome.out.splitlines()
    assert "wandb is disabled: named in FTCORE_DISABLE" in outcome.out.splitlines()
    assert {"local", "naming", "mlflow", "sft", "file", "hf"} <= rows.keys()


def test_why_tells_who_serves_each_stage_and_the_reason(config_file: Path, ftcore: Any) -> None:
    outcome = ftcore(
        "plugins", "why", "c.toml", "--set", 'fine_tuner.report_to=["mlflow"]', "--set", "stages.loader=transformers"
    )
    assert outcome.code == 0
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    from ftcore import __version__

    assert lines[0] == "STAGE PLUGIN PACKAGE WHY"
    assert f"namer naming ftcore {__version__} the only one installed" in lines
    assert f"launcher local ftcore {__version__} the default" in lines
    assert f"loader transformers ftcore {__version__} named in [stages] loader" in lines
    assert f'data file ftcore {__version__} training_data_id: "d.jsonl" is written like a path' in lines
    assert f"reporter mlflow ftcore {__version__} named in report_to" in lines
    assert f"saver local ftcore {__version__} the default" in lines
    assert "model – – base_model_id has no prefix: the loader reads the folder, file or Hub id itself" in lines
