"""`--trace`: who was called, in which order, how long it took, and how it ended; never with what."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import Formatter, Reporter
from ftcore.errors import PluginError
from ftcore.plugins import Plugins, discover
from ftcore.trace import FILE, Call, Trace, own_work

HEAD = (
    "import time\nfrom ftcore import hookimpl\nfrom ftcore.contracts import Bid, Declined\n"
    "from ftcore.errors import Problem\nfrom ftcore.settings import Section\n"
)
NAMER = "@hookimpl\ndef ftcore_name_run():\n    return 'a-name'\n"
SECRET = "sesame-open-4711"

CONFIG = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n[stages]\nloader = "transformers"\n'


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG, encoding="utf-8")
    return Path("c.toml")


@pytest.fixture
def acme(install: Any) -> Callable[..., tuple[Plugins, Trace]]:
    """Installs plugins by name and source, and follows their calls."""

    def make(**sources: str) -> tuple[Plugins, Trace]:
        modules = {f"acme_{name}": HEAD + source for name, source in sources.items()}
        install("acme", modules, {name: f"acme_{name}" for name in sources})
        plugins = discover()
        return plugins, Trace(plugins)

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this thread, time passes where something sleeps and hardly elsewhere: a busy machine adds nothing to it."""
    here, now = threading.get_ident(), [0.0]
    look, sleep = time.perf_counter, time.sleep

    def looked() -> float:
        now[0] += 1e-5
        return now[0]

    def slept(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: looked() if threading.get_ident() == here else look())
    monkeypatch.setattr(time, "sleep", lambda s: slept(s) if threading.get_ident() == here else sleep(s))


def name_run(plugins: Plugins, name: str) -> Any:
    return plugins.call("ftcore_name_run", name, config=None, started_at=None, settings=None)


def of(trace: Trace, what: str) -> list[Call]:
    return [call for call in trace.calls if call.what == what]


# Calls


def test_wrappers_come_first_and_others_are_not_asked(acme: Any) -> None:
    wrapper = "@hookimpl(wrapper=True)\ndef ftcore_name_run():\n    name = yield\n    return name\n"
    plugins, trace = acme(one=NAMER, two=NAMER, around=wrapper)
    assert name_run(plugins, "one") == "a-name"
    inner, outer = of(trace, "ftcore_name_run")  # in the order in which they end
    assert (inner.plugin, inner.order, inner.outcome) == ("one", 2, "answered")
    assert (outer.plugin, outer.order, outer.outcome) == ("around", 1, "wrapped")
    assert (inner.distribution, inner.version, inner.number) == ("acme", "1.2.3", outer.number)


def test_a_hook_called_for_all_is_one_call_with_an_order(acme: Any) -> None:
    hear = "@hookimpl\ndef ftcore_run_started(): ...\n"
    plugins, trace = acme(one=hear, two=hear)
    plugins.manager.hook.ftcore_run_started(run=None, settings=None)
    first, second = of(trace, "ftcore_run_started")
    assert [first.plugin, second.plugin] == plugins.implementing("ftcore_run_started")
    assert (first.order, second.order, first.number) == (1, 2, second.number)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [("return 'x'", "answered"), ("return None", "None"), ("raise ValueError('x')", "raised ValueError")],
)
def test_the_outcome(acme: Any, body: str, outcome: str) -> None:
    plugins, trace = acme(one=f"@hookimpl\ndef ftcore_name_run():\n    {body}\n")
    try:
        name_run(plugins, "one")
    except PluginError:
        pass
    (call,) = of(trace, "ftcore_name_run")
    assert call.outcome == outcome


@pytest.mark.parametrize(
    ("options", "body", "inner", "outcome"),
    [
        ("wrapper=True", "return (yield)", "return 'x'", "wrapped"),
        ("wrapper=True", "return (yield) + '!'", "return 'x'", "changed"),
        ("wrapper=True", "yield", "return 'x'", "changed"),
        ("wrapper=True", "return (yield)", "raise ValueError('x')", "wrapped"),
        ("wrapper=True", "yield\n    raise KeyError('x')", "return 'x'", "raised KeyError"),
        ("wrapper=True", "1 / 0\n    yield", "return 'x'", "raised ZeroDivisionError"),
        ("wrapper=True", "try:\n        return (yield)\n    except ValueError:\n        return 'y'", "raise ValueError()", "changed"),
        ("hookwrapper=True", "yield", "return 'x'", "wrapped"),
    ],
)  # fmt: skip
def test_what_a_wrapper_did(acme: Any, options: str, body: str, inner: str, outcome: str) -> None:
    wrapper = f"@hookimpl({options})\ndef ftcore_name_run():\n    {body}\n"
    plugins, trace = acme(one=f"@hookimpl\ndef ftcore_name_run():\n    {inner}\n", around=wrapper)
    followed = answer_of(plugins)
    assert [call.outcome for call in of(trace, "ftcore_name_run") if call.plugin == "around"] == [outcome]
    trace.close()
    assert answer_of(plugins) == followed  # to be followed changes nothing


def answer_of(plugins: Plugins) -> str:
    try:
        return repr(name_run(plugins, "one"))
    except PluginError as error:
        return str(error)


def test_a_wrapper_that_yields_twice_is_blamed_at_its_own_line(acme: Any) -> None:
    wrapper = "@hookimpl(wrapper=True)\ndef ftcore_name_run():\n    yield\n    yield\n"
    plugins, _ = acme(one=NAMER, around=wrapper)
    with pytest.raises(PluginError, match=r"acme_around\.py:\d+ has second yield"):
        name_run(plugins, "one")


def test_the_time_is_that_of_the_work(acme: Any, clock: None) -> None:
    wrapper = "@hookimpl(wrapper=True)\ndef ftcore_name_run():\n    time.sleep(0.02)\n    return (yield)\n"
    plugins, trace = acme(
        one="@hookimpl\ndef ftcore_name_run():\n    time.sleep(0.2)\n    return 'x'\n", around=wrapper
    )
    name_run(plugins, "one")
    inner, outer = of(trace, "ftcore_name_run")
    assert inner.seconds >= 0.2
    assert 0.02 <= outer.seconds < 0.2  # not while the others work


def test_a_hook_that_yields_is_timed_while_it_works(acme: Any, clock: None) -> None:
    source = "@hookimpl\ndef ftcore_check():\n    time.sleep(0.02)\n    yield Problem('a', 'b')\n    time.sleep(0.02)\n"
    plugins, trace = acme(one=source, two="@hookimpl\ndef ftcore_check():\n    yield from ()\n", three=source)
    found = plugins.call("ftcore_check", "one", config=None, settings=None)
    assert not of(trace, "ftcore_check")  # it has done nothing yet
    time.sleep(0.05)
    assert [problem.message for problem in found] == ["b"]
    (call,) = of(trace, "ftcore_check")
    assert (call.plugin, call.outcome) == ("one", "answered")
    assert 0.04 <= call.seconds < 0.09
    assert list(plugins.call("ftcore_check", "two", config=None, settings=None)) == []
    assert of(trace, "ftcore_check")[-1].outcome == "None"
    unfinished = plugins.call("ftcore_check", "three", config=None, settings=None)
    next(unfinished)
    del unfinished
    assert [(call.plugin, call.outcome) for call in of(trace, "ftcore_check")[2:]] == [("three", "answered")]


def test_a_hook_that_fails_while_it_yields(acme: Any) -> None:
    plugins, trace = acme(one="@hookimpl\ndef ftcore_check():\n    yield Problem('a', 'b')\n    raise OSError('x')\n")
    with pytest.raises(OSError, match="x"):
        list(plugins.call("ftcore_check", "one", config=None, settings=None))
    assert [call.outcome for call in of(trace, "ftcore_check")] == ["raised OSError"]


def test_what_is_called_inside_is_not_a_plugins_own_time(acme: Any, clock: None) -> None:
    launcher = "@hookimpl\ndef ftcore_launch(job):\n    time.sleep(0.02)\n    job()\n"
    plugins, trace = acme(one=launcher, two="@hookimpl\ndef ftcore_name_run():\n    time.sleep(0.05)\n")

    def job() -> None:
        with own_work(plugins.trace, "ftcore_launch", "Job.run_here"):
            time.sleep(0.03)
            name_run(plugins, "two")

    plugins.call("ftcore_launch", "one", run=None, job=job, settings=None)
    named, worked, launched = trace.calls[-3:]
    assert [call.what for call in (named, worked, launched)] == ["ftcore_name_run", "Job.run_here", "ftcore_launch"]
    assert launched.seconds >= 0.1 > 0.05 > launched.own_seconds >= 0.02
    assert worked.seconds >= 0.08 > worked.own_seconds >= 0.03
    assert (worked.plugin, worked.whose) == ("", "ftcore")


def test_own_work_that_fails_says_so(acme: Any) -> None:
    plugins, trace = acme(one=NAMER)
    with pytest.raises(KeyError), own_work(plugins.trace, "ftcore_launch", "Job.run_here"):
        raise KeyError("x")
    assert of(trace, "Job.run_here")[0].outcome == "raised KeyError"


def test_threads_do_not_mix(acme: Any) -> None:
    slow = "@hookimpl\ndef ftcore_name_run():\n    time.sleep(0.05)\n    return 'x'\n"
    plugins, trace = acme(one=slow, two=slow)
    threads = [threading.Thread(target=name_run, args=(plugins, name)) for name in ("one", "two", "one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = of(trace, "ftcore_name_run")
    assert len({call.number for call in calls}) == 4
    assert {(call.order, call.inside) for call in calls} == {(1, 0.0)}


# Objects that hooks make


REPORTER = (
    "class R:\n    pauses = 0.0\n    def start(self, record):\n        time.sleep(self.pauses)\n        return 'id'\n"
    "    def log(self, metrics, step):\n        if step < 0:\n            raise OSError('down')\n"
    "    def artifact(self, path, name): ...\n    def finish(self, status): ...\n"
    "@hookimpl\ndef ftcore_make_reporter():\n    return R()\n"
)


def test_the_methods_of_what_a_hook_made_are_timed(acme: Any, clock: None) -> None:
    plugins, trace = acme(one=REPORTER)
    reporter = plugins.expect(Reporter, "ftcore_make_reporter", "one", run=None, settings=None)
    sys.modules["acme_one"].R.pauses = 0.02
    assert (reporter.start("record"), reporter.pauses, hasattr(reporter, "log_many")) == ("id", 0.02, False)
    (made,), (started,) = of(trace, "ftcore_make_reporter"), of(trace, "Reporter.start")
    assert (started.hook, started.plugin, started.outcome) == ("ftcore_make_reporter", "one", "answered")
    assert started.seconds >= 0.02 > made.seconds
    # Methods that were written for an older ftcore are called with what they take.
    assert list(inspect.signature(reporter.log).parameters) == ["metrics", "step"]


def test_what_is_called_with_every_record_is_one_line(acme: Any, tmp_path: Path) -> None:
    plugins, trace = acme(one=REPORTER)
    trace.write_to(tmp_path)
    reporter = plugins.expect(Reporter, "ftcore_make_reporter", "one", run=None, settings=None)
    for step in range(100):
        reporter.log({}, step)
    with pytest.raises(OSError, match="down"):
        reporter.log({}, -1)
    assert [call.outcome for call in of(trace, "Reporter.log")] == ["raised OSError"]
    trace.close()
    assert [(call["method"], call["calls"]) for call in written(tmp_path) if "calls" in call] == [("Reporter.log", 100)]


def test_a_formatter_is_left_as_it_is(acme: Any) -> None:
    plugins, _ = acme(one="def f(row): ...\n@hookimpl\ndef ftcore_make_formatter():\n    return f\n")
    made = plugins.expect(Formatter, "ftcore_make_formatter", "one", data=None, settings=None)
    assert made is sys.modules["acme_one"].f


# Off


def test_nothing_is_in_the_way_while_nobody_follows(acme: Any) -> None:
    plugins, trace = acme(one=NAMER + REPORTER)
    hook = plugins.manager.hook.ftcore_name_run
    function = sys.modules["acme_one"].ftcore_name_run
    name_run(plugins, "one")
    followed = next(impl for impl in hook.get_hookimpls() if impl.plugin_name == "one")
    assert followed.function is not function
    trace.close()
    assert followed.function is function
    assert plugins.trace is None
    before = len(trace.calls)
    name_run(plugins, "one")
    reporter = plugins.expect(Reporter, "ftcore_make_reporter", "one", run=None, settings=None)
    assert type(reporter) is sys.modules["acme_one"].R
    assert len(trace.calls) == before
    untouched = discover()
    assert untouched.trace is None
    assert type(untouched.manager)._hookexec is type(plugins.manager)._hookexec


# Secrets


def test_arguments_answers_and_messages_are_nowhere(acme: Any, tmp_path: Path) -> None:
    plugins, trace = acme(
        one="@hookimpl\ndef ftcore_name_run(config):\n    raise ValueError(f'no {config}')\n",
        two="@hookimpl\ndef ftcore_name_run(config):\n    return config\n",
        three="@hookimpl\ndef ftcore_check(config):\n    yield Problem('', config)\n    raise ValueError(config)\n",
    )
    told: list[str] = []
    trace._tell = told.append
    trace.write_to(tmp_path)
    with pytest.raises(PluginError):
        plugins.call("ftcore_name_run", "one", config=SECRET, started_at=None, settings=SECRET)
    plugins.call("ftcore_name_run", "two", config=SECRET, started_at=None, settings=SECRET)
    with pytest.raises(ValueError, match=SECRET):
        list(plugins.call("ftcore_check", "three", config=SECRET, settings=None))
    trace.close()
    assert [line.split(" · ")[1] for line in told] == ["raised ValueError", "answered", "raised ValueError"]
    assert SECRET not in "".join(told) + (tmp_path / FILE).read_text() + repr(trace.calls)


# The file


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]


def test_the_file_has_what_came_before_it_and_what_comes_after(acme: Any, tmp_path: Path) -> None:
    plugins, trace = acme(one=NAMER)
    name_run(plugins, "one")
    trace.write_to(tmp_path)
    name_run(plugins, "one")
    trace.close()
    calls = written(tmp_path)
    assert len(calls) == len(trace.calls)
    assert {call["plugin"] for call in calls if call["hook"] == "import"} >= {"one", "sft", "local"}
    *_, first, second = calls
    assert list(first) == [
        "hook", "plugin", "distribution", "version", "process", "call", "order", "at", "seconds", "own_seconds", "outcome",
    ]  # fmt: skip
    assert (first["hook"], first["plugin"], first["distribution"], first["order"]) == (
        "ftcore_name_run",
        "one",
        "acme",
        1,
    )
    assert first["call"] < second["call"]
    assert abs(time.time() - second["at"]) < 60
    again = Trace(plugins)
    again.write_to(tmp_path)
    again.close()
    assert len(written(tmp_path)) == len(calls) + len(again.calls)  # a run that goes on


def test_a_file_that_cannot_be_written_ends_nothing(acme: Any, tmp_path: Path) -> None:
    plugins, trace = acme(one=NAMER)
    told: list[str] = []
    trace._tell = told.append
    trace.write_to(tmp_path / "gone")
    assert name_run(plugins, "one") == "a-name"
    trace.close()
    assert told[0] == "trace.jsonl cannot be written (No such file or directory): calls are only told of here"
    assert len(told) == 2


# The command line


def lines(outcome: Any) -> list[str]:
    return [line for line in outcome.errors if line.startswith("trace ")]


def test_check_tells_of_every_call_and_sums_up(install: Any, ftcore: Any, config_file: Path) -> None:
    source = HEAD + "@hookimpl\ndef ftcore_check():\n    time.sleep(0.02)\n    return []\n"
    install("acme", {"acme_trace": source}, {"acme": "acme_trace"})
    assert not [line for line in ftcore("check", "c.toml").errors if "trace" in line]
    outcome = ftcore("check", "c.toml", "--trace")
    assert outcome.code == 0
    (line,) = [line for line in lines(outcome) if "ftcore_check" in line and "acme" in line]
    assert line.split()[2:] == ["ftcore_check", "1.", "acme", "(acme)", "·", "answered"]
    assert line.split()[1].endswith("ms")
    folded = [" ".join(line.split()[2:]) for line in lines(outcome) if " plugins" in line]
    (imported, asked) = re.fullmatch(r"import (\d+) plugins\nftcore_settings (\d+) plugins", "\n".join(folded)).groups()  # type: ignore[union-attr]
    assert int(imported) > int(asked) > 5
    assert not [line for line in lines(outcome) if " import " in line and " sft (ftcore)" in line]
    heading = next(
        index for index, line in enumerate(outcome.errors) if line.startswith("Where the time of plugins went")
    )
    assert outcome.errors[heading + 1].split() == ["TIME", "WITH", "OTHERS", "CALLS", "OF", "PLUGIN"]
    (row,) = [line.split() for line in outcome.errors[heading + 2 :] if "ftcore_check" in line and "acme" in line]
    assert row[2:] == ["1", "ftcore_check", "acme", "(acme)"]
    *_, brief, imports, settings = [" ".join(line.split()) for line in outcome.errors]
    assert "what took less than 1.0ms" in brief
    assert re.fullmatch(rf"\S+ \S+ {imported} import {imported} plugins, \S+ of it \w+ \(\w+\)", imports)
    assert re.fullmatch(rf"\S+ \S+ {asked} ftcore_settings {asked} plugins, \S+ of it \w+ \(\w+\)", settings)
    assert "trace" not in outcome.out


def test_a_broken_plugin_is_told_of_by_itself(install: Any, ftcore: Any, config_file: Path) -> None:
    install("acme", {"acme_broken": "1 / 0"}, {"acme": "acme_broken"})
    told = [line for line in lines(ftcore("check", "c.toml", "--trace")) if " import " in line]
    assert [line.endswith(("acme (acme) · broken", " plugins")) for line in told] == [True, True]


def test_the_stages_of_a_run_come_first(acme: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ftcore.cli.tracing import _sum_up

    plugins, trace = acme(
        one="@hookimpl\ndef ftcore_check():\n    time.sleep(0.2)\n    return []\n" + NAMER.replace("    return", "    time.sleep(0.02)\n    return"),
        two="@hookimpl\ndef ftcore_name_run():\n    time.sleep(0.01)\n",
    )  # fmt: skip
    plugins.call("ftcore_check", "one", config=None, settings=None)
    name_run(plugins, "two")
    name_run(plugins, "one")
    _sum_up(trace)
    rows = [line.split() for line in capsys.readouterr().err.splitlines()[3:]]
    assert [(row[3], row[4]) for row in rows[:3]] == [
        ("ftcore_name_run", "one"),
        ("ftcore_name_run", "two"),
        ("ftcore_check", "one"),
    ]
    assert [row[3] for row in rows[3:]] == ["import", "ftcore_settings"]


@pytest.mark.parametrize(
    "arguments", [("ask", ".", "What?"), ("merge", "."), ("finish", "."), ("push", "."), ("report", ".")]
)
def test_every_command_that_calls_hooks_can_be_followed(
    ftcore: Any, config_file: Path, arguments: tuple[str, ...]
) -> None:
    outcome = ftcore(*arguments, "--trace")
    assert outcome.errors[-1].startswith("error: ")
    assert "Traceback" not in outcome.err
    assert [line for line in outcome.errors if line.startswith("Where the time of plugins went")]


def test_the_environment_asks_for_it_too(ftcore: Any, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCORE_TRACE", "1")
    assert lines(ftcore("check", "c.toml"))
    monkeypatch.setenv("FTCORE_TRACE", "0")
    assert not lines(ftcore("check", "c.toml"))
    monkeypatch.setenv("FTCORE_TRACE", "perhaps")
    assert ftcore("check", "c.toml").code == 2


def test_a_command_that_fails_sums_up_as_well(ftcore: Any, config_file: Path) -> None:
    outcome = ftcore("check", "c.toml", "--trace", "--set", "stages.saver=x")
    assert outcome.code == 2
    assert lines(outcome)
    assert [line for line in outcome.errors if line.startswith("Where the time of plugins went")]
    assert outcome.errors[-1].startswith("error: ")


def test_secrets_of_the_environment_are_masked_in_names_too(
    install: Any, ftcore: Any, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "hush-hush-hush")
    install("hush-hush-hush", {"acme_hush": HEAD + NAMER}, {"acme": "acme_hush"})
    assert "hush-hush-hush" not in ftcore("check", "c.toml", "--trace").err


# A run


def test_the_page_on_tracing(install: Any, ftcore_project: Any) -> None:
    """Its commands are typed, and a run with a launcher of its own leaves what it promises."""
    launcher = (
        HEAD + "asked = []\n@hookimpl\ndef ftcore_launch(job):\n    asked.append(job.command)\n    job.run_here()\n"
    )
    install("acme", {"acme_launch": launcher}, {"acme": "acme_launch"})
    ftcore_project.config({"stages": {"launcher": "acme"}, "run": {"name": "r"}})
    page = (Path(__file__).parents[1] / "docs" / "tracing.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ ftcore (.*)$", page, re.MULTILINE)
    outcomes = {command: ftcore_project.ftcore(*command.split()) for command in commands}
    assert {outcome.exit_code for outcome in outcomes.values()} == {0}, outcomes
    assert "ASKED IN" in outcomes["plugins why config.toml"].stdout
    assert "IMPORT" in outcomes["plugins"].stdout
    outcome = outcomes["run config.toml --trace"]
    (run,) = ftcore_project.runs()
    assert "trace.jsonl" in outcome.stdout
    assert "Trainer.fit" in outcome.stderr
    assert "--trace" in sys.modules["acme_launch"].asked[0]  # so that a process that it starts is followed too

    calls = written(run.path)
    order = list(dict.fromkeys(call.get("method", call["hook"]) for call in calls))
    over = [
        "ftcore_bid", "ftcore_check", "ftcore_name_run", "ftcore_make_loader", "Loader.tokenizer", "ftcore_load_dataset",
        "ftcore_make_formatter", "ftcore_make_trainer", "Trainer.prepare", "Loader.model", "Trainer.attach", "Trainer.fit",
        "ftcore_save", "Job.run_here", "ftcore_launch",
    ]  # fmt: skip
    assert [name for name in order if name in over and name != "ftcore_bid"] == over[1:]
    assert {outcome for call in calls if (outcome := call["outcome"]).startswith("raised")} == set()
    launched = next(call for call in calls if call["hook"] == "ftcore_launch" and "method" not in call)
    (fit,) = [call for call in calls if call.get("method") == "Trainer.fit"]
    assert launched["seconds"] > fit["seconds"] > 0
    assert launched["own_seconds"] < 0.1 * launched["seconds"]  # the work is not the launcher's
    assert (fit["plugin"], fit["distribution"], fit["outcome"]) == ("sft", "ftcore", "answered")


# What imports cost


def test_the_time_of_an_import_is_known_and_a_slow_one_warned_of(install: Any, ftcore: Any, clock: None) -> None:
    install(
        "acme",
        {"polars": "import time\ntime.sleep(0.25)\n", "acme_slow": "import polars\n" + HEAD + NAMER, "acme_quick": HEAD + NAMER},
        {"slow": "acme_slow", "zquick": "acme_quick"},
    )  # fmt: skip
    outcome = ftcore("plugins", "--json")
    facts = {record["name"]: record for record in json.loads(outcome.out)}
    assert facts["slow"]["import_seconds"] >= 0.25
    assert facts["slow"]["heavy"] == ["polars"]
    assert 0 < facts["zquick"]["import_seconds"] < 0.2
    assert (facts["zquick"]["heavy"], facts["zquick"]["slow"]) == ([], "")
    assert re.match(r"plugin 'slow' \(acme 1\.2\.3\) takes 2\d\d\.\dms to import ", facts["slow"]["slow"])
    assert facts["slow"]["slow"].endswith(
        "ms to import (polars among it), and every command that reads a configuration waits for it. "
        "Import what takes long inside the functions that need it"
    )


@pytest.mark.parametrize("limit", [0.03, 5.0])
def test_the_limit_of_slow_can_be_chosen(install: Any, ftcore: Any, limit: float) -> None:
    install("acme", {"acme_lazy": HEAD + "time.sleep(0.05)\n" + NAMER}, {"acme": "acme_lazy"})
    outcome = ftcore("plugins", "--slow", str(limit))
    warned = [line for line in outcome.errors if line.startswith("warning: plugin 'acme'")]
    assert len(warned) == (limit < 0.05)
    row = next(line.split() for line in outcome.out.splitlines() if line.startswith("acme "))
    assert row[3] == "ok"
    assert float(row[4].removesuffix("ms")) >= 50


def test_settings_that_import_are_slow_too(install: Any, clock: None) -> None:
    source = HEAD + "class S(Section): ...\n@hookimpl\ndef ftcore_settings():\n    import polars\n    return S\n"
    install("acme", {"polars": "import time\ntime.sleep(0.25)\n", "acme_settings": source}, {"acme": "acme_settings"})
    record = discover().get("acme")
    assert record is not None
    assert record.settings_seconds >= 0.25 > record.import_seconds
    assert record.heavy == ("polars",)
    assert "ms to answer ftcore_settings (polars among it)" in record.slow()


def test_the_import_of_a_broken_plugin_is_timed_too(install: Any) -> None:
    install("acme", {"acme_broken": "import time\ntime.sleep(0.05)\n1 / 0\n"}, {"acme": "acme_broken"})
    plugins = discover()
    record = plugins.get("acme")
    assert record is not None
    assert (record.state, record.import_seconds >= 0.05) == ("broken", True)
    (call,) = [call for call in Trace(plugins).calls if call.plugin == "acme"]
    assert (call.hook, call.outcome) == ("import", "broken")


def test_no_plugin_is_charged_with_what_is_ftcores(install: Any, tmp_path: Path) -> None:
    mark = tmp_path / "seen"
    source = f"import sys\nopen({str(mark)!r}, 'w').write(str('pydantic' in sys.modules))\n" + HEAD + NAMER
    site = install("aaa", {"acme_first": source}, {"aaa": "acme_first"})  # the first to be imported
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-m", "ftcore", "plugins"], env=environment, check=True, capture_output=True)
    assert mark.read_text() == "True"


# Why


def test_why_tells_who_answers_each_hook(install: Any, ftcore: Any, config_file: Path) -> None:
    install(
        "acme",
        {
            "acme_a": HEAD + NAMER + "@hookimpl\ndef ftcore_check():\n    time.sleep(0.02)\n    yield Problem('', 'hm', severity='warning')\n",
            "acme_b": HEAD + "@hookimpl(wrapper=True)\ndef ftcore_name_run():\n    return (yield)\n"
            "@hookimpl\ndef ftcore_check():\n    raise OSError('secret')\n@hookimpl\ndef ftcore_run_started(): ...\n",
            "acme_c": HEAD + "@hookimpl\ndef ftcore_make_loader(): ...\n@hookimpl\ndef ftcore_bid(stage):\n"
            "    if stage == 'loader':\n        return Declined('too small')\n",
        },
        {"a": "acme_a", "b": "acme_b", "c": "acme_c"},
    )  # fmt: skip
    arguments = ("plugins", "why", "c.toml", "--set", "stages.loader=auto", "--set", "fine_tuner.report_to=mlflow")
    found = json.loads(ftcore(*arguments, "--json").out)
    hooks: dict[str, list[dict[str, Any]]] = {}
    for answer in found["hooks"]:
        hooks.setdefault(answer["hook"], []).append(answer)

    naming = [(answer["order"], answer["plugin"], answer["text"]) for answer in hooks["ftcore_name_run"]]
    asked = "will be asked, until one gives a name"
    assert naming == [(1, "b", "wraps what the others do"), (2, "a", asked), (3, "naming", asked)]
    checks = {answer["plugin"]: answer for answer in hooks["ftcore_check"]}
    assert checks["a"]["text"] == "has something to say: ftcore check shows it (1)"
    assert checks["a"]["seconds"] >= 0.02
    assert checks["b"]["text"] == "fails: ftcore check says how"
    assert checks["sft"]["text"] == "finds no problem"
    bids = {answer["plugin"]: answer for answer in hooks["ftcore_bid"] if answer["seconds"] is not None}
    assert bids["c"]["text"] == "stands back: too small"
    assert bids["transformers"]["text"] in (
        "offers to load the model, rank 10: chosen",
        "offers to load the model, rank 10",
    )
    assert bids["qa"]["text"] == "makes no offer to load the model"
    later = [answer for answer in hooks["ftcore_bid"] if "when the columns are known" in answer["text"]]
    assert {"qa", "instruction", "messages"} <= {answer["plugin"] for answer in later}
    assert {answer["seconds"] for answer in later} == {None}
    reporters = {answer["plugin"]: (answer["order"], answer["text"]) for answer in hooks["ftcore_make_reporter"]}
    assert reporters["mlflow"] == (1, "named in report_to")
    assert reporters["wandb"] == (0, "not chosen")
    assert [answer["plugin"] for answer in hooks["ftcore_run_started"]] == ["b"]
    assert not {"ftcore_answering", "ftcore_register_commands"} & hooks.keys()
    assert found["stages"][0]["distribution"] == "acme"

    shown = [" ".join(line.split()) for line in ftcore(*arguments).out.splitlines()]
    assert "HOOK TURN PLUGIN PACKAGE ASKED IN ANSWER" in shown
    assert f"ftcore_name_run 2 a acme 1.2.3 – {asked}" in shown
    assert any(
        line.startswith("ftcore_make_reporter – – – – not asked: ") and "wandb not chosen" in line for line in shown
    )
    assert "secret" not in "\n".join(shown)


def test_why_follows_nobody_when_it_is_over(install: Any, config_file: Path) -> None:
    from ftcore.plugins.answers import ask

    plugins = discover()
    ask(config_file, plugins, ())
    assert plugins.trace is None


def test_options_of_the_list_in_front_of_a_command_are_refused(ftcore: Any, config_file: Path) -> None:
    outcome = ftcore("plugins", "--json", "why", "c.toml")
    assert (outcome.code, "of no use in front of why" in outcome.err) == (2, True)
