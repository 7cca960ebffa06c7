"""Each rule finds what it is for: small bad plugins, one or more for every rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ftcore.testing import PluginSetup, check_plugin
from ftcore.testing.conformance.check import all_rules
from ftcore.testing.conformance.report import Outcome
from ftcore.testing.conformance.rule import hold
from ftcore.testing.conformance.rules import reporter as rules_reporter
from ftcore.testing.conformance.subject import Subject

HEAD = """
import random, sys, time, os, copy
from pathlib import Path
from ftcore import hookimpl
from ftcore.contracts import *
from ftcore.errors import *
from ftcore.settings.base import Section
"""


@dataclass(frozen=True)
class Bad:
    """A plugin that breaks a rule.

    Attributes:
        rule: which.
        found: a part of what is to be found.
        source: its module, behind `HEAD`.
        kinds: as what it is looked at, instead of what its hooks serve.
    """

    rule: str
    found: str
    source: str
    setup: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.found[:30]}"


def formatter(body: str, top: str = "", make: str = "return Made()") -> str:
    return f"""
{top}
class Made:
    def __call__(self, row):
{_indented(body, 8)}

@hookimpl
def ftcore_make_formatter(data: DataView) -> Formatter:
{_indented(make, 4)}
"""


def data(body: str) -> str:
    return f"""
from datasets import Dataset

@hookimpl
def ftcore_load_dataset(request: DataRequest):
    path = request.locator.path
{_indented(body, 4)}
"""


def reporter(**methods: str) -> str:
    """A reporter that keeps the rules, but for the methods given."""
    good = {"start": "return record.external_id or 'r'", "log": "pass", "artifact": "pass", "finish": "pass"}
    heads = {
        "start": "start(self, record)",
        "log": "log(self, metrics, step, time)",
        "artifact": "artifact(self, path, name)",
        "finish": "finish(self, status, time)",
        "log_many": "log_many(self, records)",
    }
    defined = "".join(f"    def {heads[name]}:\n{_indented(body, 8)}\n" for name, body in {**good, **methods}.items())
    return f"""
class Made:
    def __init__(self): self.seen = []
{defined}
@hookimpl
def ftcore_make_reporter(run: Run) -> Reporter:
    return Made()
"""


def saver(body: str) -> str:
    return f"@hookimpl\ndef ftcore_save(run: Run, trained: Trained) -> Saved:\n{_indented(body, 4)}\n"


def namer(body: str) -> str:
    return f"@hookimpl\ndef ftcore_name_run(config, started_at):\n{_indented(body, 4)}\n"


def launcher(body: str) -> str:
    return f"@hookimpl\ndef ftcore_launch(run: Run, job: Job) -> None:\n{_indented(body, 4)}\n"


def loader(tokenizer: str = "return self.inner.tokenizer()", model: str = "return self.inner.model()") -> str:
    return f"""
import ftcore_transformers
class Made:
    def __init__(self, run, source, model, lora):
        self.run, self.source, self.settings, self.lora = run, source, model, lora
        self.inner = ftcore_transformers.ftcore_make_loader(run, source, model, lora)
    def tokenizer(self):
{_indented(tokenizer, 8)}
    def model(self):
{_indented(model, 8)}

@hookimpl
def ftcore_make_loader(run, source, model, lora):
    return Made(run, source, model, lora)
"""


def trainer(**methods: str) -> str:
    heads = {
        "prepare": "prepare(self, examples)",
        "attach": "attach(self, model, prepared, observer)",
        "evaluate": "evaluate(self)",
        "fit": "fit(self, resume_from)",
        "generate": "generate(self, conversations, max_new_tokens)",
        "rehearse": "rehearse(self, part)",
    }
    defined = "".join(f"    def {heads[name]}:\n{_indented(body, 8)}\n" for name, body in methods.items())
    return f"""
import ftcore_sft
from dataclasses import replace
class Made:
    def __init__(self, inner, run): self.inner, self.run = inner, run
    def __getattr__(self, name): return getattr(self.inner, name)
{defined}
@hookimpl
def ftcore_make_trainer(run, training, logging, saving, audit):
    settings = ftcore_sft.SftSettings()
    return Made(ftcore_sft.ftcore_make_trainer(run, training, logging, saving, audit, settings), run)
"""


def settings(fields: str, top: str = "") -> str:
    return f"""
{top}
class Settings(Section):
{_indented(fields, 4)}

@hookimpl
def ftcore_settings() -> type[Section]:
    return Settings
"""


def _indented(text: str, spaces: int) -> str:
    lines = dedent(text).strip("\n").splitlines() or ["pass"]
    return "\n".join(" " * spaces + line for line in lines)


TURNS = "[{'role': 'user', 'content': row['question']}, {'role': 'assistant', 'content': row['answer']}]"
ROWS = "Dataset.from_list([{'question': 'q', 'answer': 'a'}] * 3)"
KNOWN = "if path != 'there' or request.locator.options: raise DataError('no such data')\n"
THERE = {"data": "bad:there"}
NAMED = namer("return None")

# fmt: off
BAD = [
    Bad("plugin-loads", "its import failed: ImportError: nothing", "raise ImportError('nothing')"),
    Bad("plugin-loads", "ftcore_sav is not a hook", "@hookimpl\ndef ftcore_sav(run: Run) -> None: ..."),
    Bad("plugin-kinds", "it is no saver: it has no ftcore_save", NAMED, kinds=("saver",)),
    Bad("plugin-hooks", "is not marked", NAMED + "def ftcore_save(run: Run) -> Saved: ..."),
    Bad("plugin-hooks", "(is ftcore_make_reporter meant?)", NAMED + "def ftcore_make_reporters(run: Run): ..."),
    Bad("plugin-typed", "run has no type; it is Run", "@hookimpl\ndef ftcore_run_started(run) -> None: ..."),
    Bad("plugin-typed", "annotated ftcore.contracts.Job", "@hookimpl\ndef ftcore_run_started(run: Job) -> None: ..."),
    Bad("plugin-typed", "the result has no type", "@hookimpl\ndef ftcore_run_started(run: Run): ..."),
    Bad("plugin-typed", "the result is Loader", "@hookimpl\ndef ftcore_make_loader(run: Run) -> None: ..."),
    Bad("plugin-imports-nothing-heavy", "imports datasets (site-packages/bad_plugin.py:", "import datasets\n" + NAMED),
    Bad("plugin-imports-nothing-heavy", "s of processor time", NAMED + "while time.process_time() < 0.9: pass"),
    Bad("plugin-imports-without-extras", "without jinja2: ", "import jinja2\n" + NAMED),
    Bad("plugin-imports-without-extras", "ended the process", NAMED + "if __name__ != 'x' and 'pytest' not in sys.modules: os._exit(3)"),
    Bad("plugin-settings-strict", "extra is 'allow'", settings("model_config = {'extra': 'allow'}\nkey: int = 1\n'''A key.'''")),
    Bad("plugin-settings-documented", "Inner.key has no docstring",
        settings("inner: Inner = Inner()\n'''Documented.'''", "class Inner(Section):\n    key: int = 1\n")),
    Bad("plugin-settings-secrets", "Settings.api_key is named like a secret", settings("api_key: str = ''\n'''A key.'''")),
    Bad("plugin-check-answers", "ftcore_check stops a run", "@hookimpl\ndef ftcore_check(config, settings): return [Problem('', 'no token')]"),
    Bad("plugin-check-answers", "KeyError: 'x' (bad_plugin.py:", "@hookimpl\ndef ftcore_check(config, settings): return {}['x']"),
    Bad("plugin-check-answers", "yields a str", "@hookimpl\ndef ftcore_check(config, settings): return ['no token']"),
    Bad("plugin-bid-answers", "AttributeError", "@hookimpl\ndef ftcore_bid(stage, config, data): return Bid(5, data.columns[0])"),
    Bad("plugin-bid-answers", "offers to serve as loader", "@hookimpl\ndef ftcore_bid(stage, config, data): return Bid(5, 'me')"),
    Bad("plugin-bid-answers", "is a int", "@hookimpl\ndef ftcore_bid(stage, config, data): return 5"),
    Bad("plugin-listens-quietly", "FileNotFoundError", "@hookimpl\ndef ftcore_run_finished(run, status): (run.dir / 'model' / 'x').read_text()"),
    Bad("plugin-commands", "'run' is a command of ftcore's",
        "import click\n@hookimpl\ndef ftcore_register_commands(cli): cli.add_command(click.Command('run', help='Run.'))"),
    Bad("plugin-commands", "has no help", "import click\n@hookimpl\ndef ftcore_register_commands(cli): cli.add_command(click.Command('walk'))"),
    # formatters
    Bad("formatter-conversation", "not a list of turns", formatter("return row['question']")),
    Bad("formatter-conversation", "not a role", formatter("return [{'role': 'human', 'content': 'x'}]")),
    Bad("formatter-conversation", "no turn of the assistant", formatter("return [{'role': 'user', 'content': 'x'}]")),
    Bad("formatter-conversation", "give it some, as `rows`", formatter("return row", make="raise FormatMismatch('no')")),
    Bad("formatter-pure", "it changes row 1: answer", formatter(f"row['answer'] = row['answer'] + '!'\nreturn {TURNS}")),
    Bad("formatter-pure", "gave out its own list", formatter(
        f"return self.kept.setdefault(row['question'], {TURNS})", make="made = Made()\nmade.kept = {}\nreturn made")),
    Bad("formatter-deterministic", "row 1 became", formatter(f"return [{{'role': 'system', 'content': str(random.random())}}, *{TURNS}]")),
    Bad("formatter-picklable", "cannot be pickled", formatter(f"return {TURNS}", make=f"return lambda row: {TURNS}")),
    Bad("formatter-picklable", "in another process", formatter(
        f"return [{{'role': 'system', 'content': str(hash(row['question']))}}, *{TURNS}]")),
    Bad("formatter-batches", "out of a batch", formatter(
        f"return [*{TURNS}, *([{{'role': 'user', 'content': 'bye'}}] if row.get('note', 1) is None else [])]"),
        setup={"rows": [{"question": "q", "answer": "a"}, {"question": "q", "answer": "a", "note": "n"}]}),
    Bad("formatter-refuses-rows", "with question = None it raised AttributeError", formatter(f"row['question'].strip(); return {TURNS}")),
    Bad("formatter-refuses-columns", "KeyError: 'question'", formatter(f"return {TURNS}")),
    # data
    Bad("data-rows", "a list, not a datasets.Dataset", data("return [1]"), THERE),
    Bad("data-rows", "give one, as `data`", data("return [1]")),
    Bad("data-deterministic", "other rows", data("return Dataset.from_list([{'a': random.random()}])"), THERE),
    Bad("data-validation", "ValueError", data(f"if request.purpose == 'validation': raise ValueError('none')\nreturn {ROWS}"), THERE),
    Bad("data-streams", "MB in Arrow's tables", data("return Dataset.from_dict({'a': ['x' * 100] * 100_000})"), {**THERE, "large": "bad:there"}),
    Bad("data-streams", "too few to tell", data(f"return {ROWS}"), {**THERE, "large": "bad:there"}),
    Bad("data-refuses", "FileNotFoundError", data(f"open('/nowhere/' + path)\nreturn {ROWS}"), THERE),
    Bad("data-refuses", "nothing was raised", data(f"return {ROWS}"), THERE),
    Bad("data-refuses-options", "nothing was raised", data(f"return {ROWS}"), THERE),
    Bad("data-leaves-secrets", "has a secret of [bad] in it", "from pydantic import SecretStr\n" + settings("token: SecretStr = SecretStr('abcdef-secret')\n'''One.'''")
        + data("raise DataError('no data at https://abcdef-secret@host')"), THERE),
    # models
    Bad("model-resolves", "it returned 7", "@hookimpl\ndef ftcore_resolve_model(locator): return 7", {"model": "bad:x"}),
    Bad("model-resolves", "no such file or folder", "@hookimpl\ndef ftcore_resolve_model(locator): return '/no/such/model'", {"model": "bad:x"}),
    Bad("model-refuses", "KeyError", "@hookimpl\ndef ftcore_resolve_model(locator): return {}[locator.path]", {"model": "bad:x"}),
    # namers
    Bad("namer-legal", "characters", namer("return config.fine_tuner.base_model_id")),
    Bad("namer-legal", "with a int", namer("return 7")),
    Bad("namer-deterministic", "and then", namer("return f'run-{random.randrange(10**9)}'")),
    Bad("namer-keeps-given-name", "it gave 'mine'", namer("return 'mine'")),
    Bad("namer-writes-nothing", "it made names.txt", namer("Path('names.txt').write_text('x')\nreturn 'mine'")),
    # launchers
    Bad("launcher-runs-once", "ran 0 times", launcher("pass")),
    Bad("launcher-runs-once", "ran 2 times", launcher("job.run_here(); job.run_here()")),
    Bad("launcher-waits", "still running", launcher("os.spawnv(os.P_NOWAIT, job.command[0], list(job.command))")),
    Bad("launcher-passes-errors", "ended with 4, and it returned", launcher("import subprocess; subprocess.run(job.command)")),
    Bad("launcher-passes-errors", "CalledProcessError", launcher("import subprocess; subprocess.run(job.command, check=True)")),
    Bad("launcher-passes-errors", "and it raised TrainingError", launcher(
        "try: job.run_here()\nexcept Exception as error: raise TrainingError('it failed')")),
    Bad("launcher-passes-interrupts", "raised Interrupted, and it returned", launcher(
        "try: job.run_here()\nexcept Interrupted: pass")),
    # reporters
    Bad("reporter-methods", "log does not take metrics, step, time", reporter() + "\nMade.log = lambda self, metrics, step: None"),
    Bad("reporter-reports", "NotADirectoryError", reporter(artifact="open(path / 'x')")),
    Bad("reporter-reports", "KeyError: 'failed'", reporter(finish="{'finished': 0, 'interrupted': 1}[status]")),
    Bad("reporter-numbers", "log of {}: it raised", reporter(log="next(iter(metrics))")),
    Bad("reporter-replay", "the same record again", reporter(log="assert step not in self.seen\nself.seen.append(step)")),
    Bad("reporter-late", "step 3 behind later ones", reporter(log="assert step >= max(self.seen, default=0)\nself.seen.append(step)")),
    Bad("reporter-resumes", "when it goes on", reporter(start="return str(random.random())")),
    Bad("reporter-batches", "log_many of 100 records", reporter(log_many="assert len(records) < 50")),
    Bad("reporter-survives-failures", "records were not taken", reporter(log="assert step not in SEEN\nSEEN.append(step)") + "SEEN = []"),
    Bad("reporter-outage", "said to be down", reporter(), {"down": {"fine_tuner": {"log_steps": 7}}}),
    Bad("reporter-outage", "nothing was raised", reporter(log="sys.modules['time'].sleep(3)"), {"down": {"fine_tuner": {"log_steps": 7}}}),
]

NEEDS_TORCH = [
    Bad("saver-says-what", "nothing is there", saver("return Saved('model', str(run.dir / 'nowhere'))")),
    Bad("saver-says-what", "returned None", saver("pass")),
    Bad("saver-idempotent", "saving again adds", saver(
        "folder = run.dir / f'copy-{len(list(run.dir.iterdir()))}'\nreturn Saved('model', str(trained.export(folder)))")),
    Bad("saver-idempotent", "saving again changes", saver(
        "path = run.dir / 'note.txt'\npath.write_text(str(random.random()))\nreturn Saved('note', str(path))")),
    Bad("saver-touches-nothing-else", "it removes run-1/checkpoints", saver(
        "import shutil; shutil.rmtree(run.dir / 'checkpoints')\nreturn Saved('model', str(run.dir / 'model'))")),
    Bad("saver-touches-nothing-else", "it writes here/tmp.bin", saver(
        "Path('tmp.bin').write_text('x')\nreturn Saved('model', str(run.dir / 'model'))")),
    Bad("saver-leaves-the-model", "weights, e.g.", saver(
        "import torch\nwith torch.no_grad():\n    next(trained.model.parameters()).mul_(2)\nreturn Saved('model', str(run.dir / 'model'))")),
    Bad("saver-leaves-the-model", "another mode", saver("trained.model.eval()\nreturn Saved('model', str(run.dir / 'model'))")),
    Bad("saver-tells-errors", "says that it saved", saver(
        "try: trained.export(run.dir / 'mine')\nexcept SaveError: pass\nreturn Saved('model', 'https://host/m')")),
    Bad("loader-tokenizer", "no chat template", loader("found = self.inner.tokenizer()\nfound.chat_template = None\nreturn found")),
    Bad("loader-tokenizer", "the pad token is the EOS", loader("found = self.inner.tokenizer()\nfound.pad_token = found.eos_token\nreturn found")),
    Bad("loader-tokenizer-first", "raised", loader("self.loaded = self.inner.model()\nreturn self.inner.tokenizer()")),
    Bad("loader-trains", "evaluation mode", loader(model="return self.inner.model().eval()")),
    Bad("loader-trains", "no weight is trained", loader(model="return self.inner.model().requires_grad_(False)")),
    Bad("loader-trains", "besides the adapter", loader(model="found = self.inner.model()\nfor name, value in found.named_parameters():\n    value.requires_grad_(True)\nreturn found")),
    Bad("loader-seed", "with the same seed", loader(
        model="found = self.inner.model()\nimport torch\nfor name, value in found.named_parameters():\n"
        "    if value.requires_grad: value.data.normal_(generator=torch.Generator().manual_seed(int.from_bytes(os.urandom(4))))\nreturn found")),
    Bad("loader-seed", "with another seed", loader(
        model="found = self.inner.model()\nfor name, value in found.named_parameters():\n"
        "    if value.requires_grad: value.data.fill_(0.5)\nreturn found")),
    Bad("loader-dtype", 'with dtype = "bfloat16" it has torch.float32', loader(model="return self.inner.model().float()")),
    Bad("loader-adapter", "with rank = 3", loader(
        model="self.inner = ftcore_transformers.ftcore_make_loader(self.run, self.source, self.settings, self.lora.model_copy(update={'rank': 16}))\nreturn self.inner.model()")),
    Bad("loader-adapter", "it trains", loader(
        model="self.inner = ftcore_transformers.ftcore_make_loader(self.run, self.source, self.settings, self.lora.model_copy(update={'target_modules': ['v_proj']}))\nreturn self.inner.model()")),
    Bad("loader-refuses", "OSError", loader("raise OSError('no such folder')")),
    Bad("trainer-prepares", "nothing to learn", trainer(
        prepare="found = self.inner.prepare(examples)\nreturn replace(found, train=found.train.map(lambda row: {'labels': [-100] * len(row['labels'])}))")),
    Bad("trainer-prepares", "for the token", trainer(
        prepare="found = self.inner.prepare(examples)\nreturn replace(found, train=found.train.map(lambda row: {'labels': row['labels'][1:] + [5]}))")),
    Bad("trainer-prepares-the-same", "others the second time", trainer(
        prepare="found = self.inner.prepare(examples)\nreturn replace(found, train=found.train.shuffle(seed=random.randrange(10**9)))")),
    Bad("trainer-learns", "the loss of the rows", trainer(
        attach="self.model = model\nself.inner.attach(model, prepared, observer)",
        fit="from ftcore.contracts import FitResult\nreturn FitResult(1, 1.0, {})")),
    Bad("trainer-learns", "not to be trained have changed", trainer(
        attach="self.model = model\nself.inner.attach(model, prepared, observer)",
        fit="found = self.inner.fit(resume_from)\nfor name, value in self.model.named_parameters():\n"
        "    if 'embed' in name: value.data.add_(1e-4)\nreturn found")),
    Bad("trainer-tells", "steps", trainer(attach="observer.step = lambda step, tokens: None\nself.inner.attach(model, prepared, observer)")),
    Bad("trainer-tells", "no `loss`", trainer(attach="observer.log = lambda step, metrics: None\nself.inner.attach(model, prepared, observer)")),
    Bad("trainer-tells", "the last checkpoint", trainer(
        attach="observer.checkpoint = lambda step, folder: None\nself.inner.attach(model, prepared, observer)")),
    Bad("trainer-stops", "asked to stop", trainer(
        attach="observer.should_stop = lambda: False\nself.inner.attach(model, prepared, observer)")),
    Bad("trainer-resumes", "begin was called", trainer(fit="return self.inner.fit(None)")),
    Bad("trainer-repeats", "weights differ", trainer(
        attach="self.model = model\nself.inner.attach(model, prepared, observer)",
        fit="found = self.inner.fit(resume_from)\nfor name, value in self.model.named_parameters():\n"
        "    if value.requires_grad: value.data.add_(os.urandom(1)[0] / 256)\nreturn found")),
    Bad("trainer-evaluates", "without a number eval_loss", trainer(evaluate="return {}")),
    Bad("trainer-evaluates", "random numbers", trainer(evaluate="import torch; torch.rand(1)\nreturn self.inner.evaluate()")),
    Bad("trainer-evaluates", "without validation data it gives", trainer(evaluate="return {'eval_loss': 1.0}")),
    Bad("trainer-generates", "two questions", trainer(generate="return ['one answer']")),
    Bad("trainer-generates", "and then", trainer(generate="return [str(random.random()) for _ in conversations]")),
    Bad("trainer-rehearses", "changes weights", trainer(
        attach="self.model = model\nself.inner.attach(model, prepared, observer)",
        rehearse="next(self.model.parameters()).data.add_(1)\nreturn None")),
    Bad("trainer-skips-bad-rows", "is no FtcoreError", trainer(
        prepare="rows = [examples.formatter(row) for row in examples.train]\nreturn self.inner.prepare(examples)")),
]
# fmt: on

Held = Callable[..., Outcome]


@pytest.fixture
def held(
    install: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Held:
    """Installs a plugin named `bad`, and holds one rule against it, without much patience."""
    monkeypatch.setattr(rules_reporter, "PATIENCE", 3.0)
    monkeypatch.setattr(rules_reporter, "TELLING", 1.0)

    def hold_it(bad: Bad) -> Outcome:
        extras = ["jinja2; extra == 'http'"]
        install("bad-plugin", {"bad_plugin": HEAD + dedent(bad.source)}, {"bad": "bad_plugin"}, requires=extras)
        (rule,) = [rule for rule in all_rules() if rule.id == bad.rule]
        folder = tmp_path / "tried"
        folder.mkdir()
        model: Callable[[], Path] = lambda: request.getfixturevalue("ftcore_model")  # noqa: E731
        return hold(rule, Subject("bad", PluginSetup(**bad.setup), folder, model, bad.kinds))

    return hold_it


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_plugin_is_found(held: Held, bad: Bad) -> None:
    outcome = held(bad)
    assert outcome.status == "failed", outcome
    assert bad.found in "\n".join(outcome.found)
    assert outcome.why
    assert outcome.fix


@pytest.mark.parametrize("bad", NEEDS_TORCH, ids=str)
def test_a_bad_saver_loader_or_trainer_is_found(held: Held, bad: Bad) -> None:
    outcome = held(bad)
    assert outcome.status == "failed", outcome
    assert bad.found in "\n".join(outcome.found)


def test_every_rule_has_a_bad_plugin_and_says_what_it_is_for() -> None:
    rules = all_rules()
    assert {rule.id for rule in rules} == {bad.rule for bad in (*BAD, *NEEDS_TORCH)}
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.what.endswith("."), rule.id
        assert rule.why, rule.id
        assert rule.fix, rule.id


def test_what_a_dependency_needs_is_there(install: Callable[..., Path], tmp_path: Path) -> None:
    install("helper", {"helper": "import jinja2"}, {}, requires=["jinja2"])
    needs = ["helper", "jinja2; extra == 'templates'"]
    install("bad-plugin", {"bad_plugin": HEAD + "import helper\n" + NAMED}, {"bad": "bad_plugin"}, requires=needs)
    (rule,) = [rule for rule in all_rules() if rule.id == "plugin-imports-without-extras"]
    assert hold(rule, Subject("bad", PluginSetup(), tmp_path, lambda: tmp_path)).status == "passed"


def test_all_that_is_broken_is_told_at_once(install: Callable[..., Path], tmp_path: Path) -> None:
    source = HEAD + namer("return 'a name with spaces'") + settings("token: str = ''")
    install("bad-plugin", {"bad_plugin": source}, {"bad": "bad_plugin"})
    with pytest.raises(AssertionError) as raised:
        check_plugin("bad", setup=PluginSetup())
    text = str(raised.value)
    assert "plugin 'bad' (bad-plugin 1.2.3) as namer" in text
    for rule in ("plugin-typed", "plugin-settings-documented", "plugin-settings-secrets", "namer-legal"):
        assert f"\n{rule}: " in text
    assert "    fix: use letters, digits" in text
    assert "\nnamer-deterministic: " not in text
    json.dumps(text)


def test_a_key_without_a_default_is_asked_for(install: Callable[..., Path], tmp_path: Path) -> None:
    source = HEAD + namer("return None") + settings("folder: str")
    install("bad-plugin", {"bad_plugin": source}, {"bad": "bad_plugin"})
    (rule,) = [rule for rule in all_rules() if rule.id == "namer-legal"]
    outcome = hold(rule, Subject("bad", PluginSetup(), tmp_path, lambda: tmp_path))
    assert "bad.folder: [bad] has no folder, which is required" in outcome.found[0]
    assert "give them as config.bad.folder = … in the fixture ftcore_conformance" in outcome.fix


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AssertionError, match="no plugin 'nobody' is installed"):
        check_plugin("nobody", setup=PluginSetup())
    with pytest.raises(ValueError, match="there is no kind savor; kinds are launcher, "):
        check_plugin("local", kinds=["savor"], setup=PluginSetup())


def test_what_a_plugin_needs_stands_in_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.ftcore.conformance.mine]\ndata = "mine:x"\nrows = [{ a = "b" }]\nconfig.mine.database = "./data/x.db"\n'
    )
    inner = tmp_path / "tests"
    inner.mkdir()
    setup = PluginSetup.from_pyproject("mine", inner)
    assert (setup.data, setup.rows) == ("mine:x", [{"a": "b"}])
    assert setup.config == {"mine": {"database": str(tmp_path / "data" / "x.db")}}
    assert PluginSetup.from_pyproject("other", inner) == PluginSetup()
    (tmp_path / "pyproject.toml").write_text('[tool.ftcore.conformance.mine]\ndatas = "mine:x"\n')
    with pytest.raises(ValueError, match="has datas; its keys are config, rows, data"):
        PluginSetup.from_pyproject("mine", inner)
