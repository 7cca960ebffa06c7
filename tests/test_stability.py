"""What is promised to plugins and configurations is kept, and what goes away is said first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from ftcore import contracts, hookspecs
from ftcore.errors import FtcoreDeprecationWarning
from ftcore.plugins import discover, older
from ftcore.plugins.deprecation import goes_away, noticed, renamed_names

HERE = Path(__file__).parent / "stability"
sys.path.insert(0, str(HERE))

import snapshot  # noqa: E402  (its folder has to be found first)
from rules import HOW, difference  # noqa: E402

OLD_WHEEL = HERE / "acme_old-0.1.0-py3-none-any.whl"


def test_what_is_public_is_what_the_snapshot_says() -> None:
    found = difference(snapshot.promised(), snapshot.current())
    assert not found, "\n".join(["docs/stability.md says what may change.", *found.lines()])


HOOK = "hook ftcore_save"
TRAINER = "ftcore.contracts.Trainer"
BID = {"ftcore.contracts.Bid": "@dataclass(frozen=True) class()"}
FINE = {
    "another name": ({}, {"ftcore.files.read": "(path: Path) -> str"}),
    "another hook": ({}, {HOOK: "first result (run: Run) -> Saved"}),
    "another argument of a hook": (
        {HOOK: "first result (run: Run, settings: Any) -> Saved"},
        {HOOK: "first result (run: Run, held_out: HeldOut, settings: Any) -> Saved"},
    ),
    "another argument with a default": ({"f": "(a: int) -> str"}, {"f": "(a: int, b: int=0, *, c: str='') -> str"}),
    "another argument of a method that core calls": (
        {f"{TRAINER}.evaluate": "(self) -> None"},
        {f"{TRAINER}.evaluate": "(self, step: int) -> None"},
    ),
    "another method of what core gives": ({}, {"ftcore.contracts.Run.ask": "(self) -> str"}),
    "another field with a default": (BID, {**BID, "ftcore.contracts.Bid.cost": "int = 0"}),
    "another key with a default": ({"section [run]": "section"}, {"section [run]": "section", "section [run] x": "has a default"}),
    "a key need not be given any more": ({"section [run] x": "required"}, {"section [run] x": "has a default"}),
    "another option": ({"command ftcore run": "command"}, {"command ftcore run": "command", "command ftcore run --x": "a switch"}),
}  # fmt: skip
BREAKING = {
    "a name is gone": ({"ftcore.files.read": "(path: Path) -> str"}, {}),
    "a hook is gone": ({HOOK: "first result (run: Run) -> Saved"}, {}),
    "an argument of a hook is gone": (
        {HOOK: "first result (run: Run, settings: Any) -> Saved"},
        {HOOK: "first result (run: Run) -> Saved"},
    ),
    "an argument of a hook has another type": ({HOOK: "all results (a: int)"}, {HOOK: "all results (a: str)"}),
    "a hook asks all": ({HOOK: "first result (a: int)"}, {HOOK: "all results (a: int)"}),
    "a hook returns something else": ({HOOK: "first result () -> A"}, {HOOK: "first result () -> B"}),
    "an argument that has to be given": ({"f": "(a: int) -> str"}, {"f": "(a: int, b: int) -> str"}),
    "an argument before another": ({"f": "(a: int) -> str"}, {"f": "(b: int=0, a: int=0) -> str"}),
    "an argument lost its default": ({"f": "(a: int=0) -> str"}, {"f": "(a: int) -> str"}),
    "a method that plugins' objects do not have": (
        {TRAINER: "class(Protocol)"},
        {TRAINER: "class(Protocol)", f"{TRAINER}.explain": "(self) -> str"},
    ),
    "a field that has to be given": (BID, {**BID, "ftcore.contracts.Bid.cost": "int"}),
    "a field is gone": ({**BID, "ftcore.contracts.Bid.rank": "int"}, BID),
    "a key that has to be given": ({"section [run]": "section"}, {"section [run]": "section", "section [run] x": "required"}),
    "another argument of a command": ({"command ftcore ask": "command"}, {"command ftcore ask": "command", "command ftcore ask RUN": "argument"}),
    "a built-in plugin is gone": ({"plugin wandb": "built in"}, {}),
    "an exit code means something else": ({"exit code 7": "not saved"}, {"exit code 7": "the disk is full"}),
}  # fmt: skip


@pytest.mark.parametrize("what", FINE)
def test_additions_are_fine(what: str) -> None:
    found = difference(*FINE[what])
    assert (len(found.fine), found.breaking) == (1, ())
    assert list(found.lines())[-1].endswith(HOW)


@pytest.mark.parametrize("what", BREAKING)
def test_what_breaks_somebody_is_called_so(what: str) -> None:
    found = difference(*BREAKING[what])
    assert (found.fine, len(found.breaking)) == ((), 1)
    assert "mark it as deprecated" in "\n".join(found.lines())


def test_the_snapshot_has_what_plugins_and_users_rely_on() -> None:
    api = snapshot.promised()
    assert len([name for name in api if name.startswith("hook ")]) == len(
        [value for value in vars(hookspecs).values() if hasattr(value, "ftcore_spec")]
    )
    for name in (
        "ftcore.hookimpl",
        "ftcore.contracts.Trainer.fit",
        "ftcore.contracts.Formatter.__call__",
        "ftcore.contracts.Prepared.order",
        "ftcore.settings.Section",
        "ftcore.settings.training.TrainingSettings.learning_rate",
        "ftcore.testing.check_plugin",
        "ftcore.testing.pytest_plugin.ftcore_project",
        "section [mlflow] run_name",
        "command ftcore run --resume",
        "exit code 130",
    ):
        assert name in api, name
    assert not [name for name in api if name.startswith(("ftcore.run", "ftcore.plugins", "ftcore.plugins.discovery"))]


SOON = {"since": "1.2", "removed_in": "2.0"}
PLUGIN = """\
from ftcore import hookimpl
from ftcore.contracts import OldBid


@hookimpl
def ftcore_answering(model): ...


@hookimpl
def ftcore_name_run(started_at):
    return "acme-run"
"""


@pytest.fixture
def old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook, an argument and a type that go away, marked as they would be."""
    hook: dict[str, Any] = hookspecs.ftcore_answering.ftcore_spec  # type: ignore[attr-defined]
    monkeypatch.setitem(hook, "warn_on_impl", goes_away("the hook ftcore_answering", **SOON, instead="ftcore_ask"))
    argument = goes_away("the argument started_at of ftcore_name_run", **SOON, instead="run.started_at")
    spec: dict[str, Any] = hookspecs.ftcore_name_run.ftcore_spec  # type: ignore[attr-defined]
    monkeypatch.setitem(spec, "warn_on_impl_args", {"started_at": argument})
    moved = {"OldBid": ("Bid", goes_away("the type OldBid", **SOON, instead="Bid"))}
    monkeypatch.setattr(contracts, "__getattr__", renamed_names(contracts.__name__, moved), raising=False)


@pytest.mark.usefixtures("old_names")
@pytest.mark.filterwarnings("ignore::ftcore.errors.FtcoreDeprecationWarning")
def test_what_goes_away_is_said_at_the_plugins_line(install: Any, ftcore: Any, tmp_path: Path) -> None:
    site = install("acme-ftcore", {"acme_outdated": PLUGIN}, {"acme": "acme_outdated"})
    with pytest.warns(FtcoreDeprecationWarning) as warned:
        record = discover().get("acme")
    module = site / "acme_outdated.py"
    assert record is not None
    assert record.state == "ok"
    assert record.outdated == (
        f"{module}:2: the type OldBid goes away in ftcore 2.0 (deprecated since 1.2): use Bid",
        f"{module}:5: the hook ftcore_answering goes away in ftcore 2.0 (deprecated since 1.2): use ftcore_ask",
        f"{module}:9: the argument started_at of ftcore_name_run goes away in ftcore 2.0 (deprecated since 1.2): "
        "use run.started_at",
    )
    places = {(warning.filename, warning.lineno) for warning in warned}
    assert places >= {(str(module), line) for line in (2, 5, 9)}  # and those of built-in plugins that do the same

    (tmp_path / "data.jsonl").write_text('{"question": "a", "answer": "b"}\n', encoding="utf-8")
    config = tmp_path / "config.toml"
    config.write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "data.jsonl"\n', encoding="utf-8")
    del sys.modules["acme_outdated"]  # a command is a process of its own, which imports it again
    outcome = ftcore("check", str(config))
    said = [line for line in (outcome.out + outcome.err).splitlines() if str(module) in line]
    expected = sorted(f"warning: plugin 'acme' (acme-ftcore 1.2.3): {line}" for line in record.outdated)
    assert (outcome.code, sorted(said)) == (0, expected)
    assert f"acme is outdated: {record.outdated[1]}" in ftcore("plugins").out


@pytest.mark.usefixtures("old_names")
def test_an_author_can_make_it_an_error(install: Any) -> None:
    install("acme-ftcore", {"acme_outdated": PLUGIN}, {"acme": "acme_outdated"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", FtcoreDeprecationWarning)
        record = discover().get("acme")
    assert record is not None
    assert (record.state, record.hooks) == ("broken", ())
    assert "FtcoreDeprecationWarning: the type OldBid goes away" in record.reason


def test_other_warnings_are_not_swallowed() -> None:
    lines: list[str] = []
    with pytest.warns(UserWarning, match="of a library"), noticed(lines):
        warnings.warn("of a library", UserWarning, stacklevel=1)
    assert lines == []


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute .Bit."):
        renamed_names("ftcore.contracts", {})("Bit")


def test_a_hook_of_a_newer_ftcore_can_be_optional(install: Any) -> None:
    source = (
        "from ftcore import hookimpl\n@hookimpl(optionalhook=True)\ndef ftcore_of_tomorrow(run, extra): ...\n"
        "@hookimpl\ndef ftcore_name_run():\n    return 'acme-run'\n"
    )
    install("acme-ftcore", {"acme_newer": source}, {"acme": "acme_newer"})
    plugins = discover()
    record = plugins.get("acme")
    assert record is not None
    assert (record.state, record.hooks) == ("ok", ("ftcore_name_run",))
    assert plugins.call("ftcore_name_run", "acme", config=None, started_at=None, settings=None) == "acme-run"


def test_a_plugin_for_a_newer_ftcore_stops_only_who_wants_it(install: Any, ftcore: Any, tmp_path: Path) -> None:
    from ftcore import __version__

    install("acme-ftcore", {"acme_newer": "1 / 0"}, {"acme": "acme_newer"}, requires=["ftcore>=99"])
    config = tmp_path / "config.toml"
    config.write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "acme:x"\n', encoding="utf-8")
    outcome = ftcore("check", str(config))
    assert (outcome.code, outcome.errors) == (
        3,
        [
            f"error: {config}:3: training_data_id's data source = \"acme\" names a plugin that is broken: plugin 'acme' "
            f"(acme-ftcore 1.2.3): it needs ftcore>=99 and this is {__version__}. Update or reinstall its package"
        ],
    )


def test_older_methods_are_called_without_what_came_later() -> None:
    class Reporter:
        def finish(self, status: str) -> str:
            return status

    assert older.call(Reporter().finish, "finished", 1.0) == "finished"
    assert older.call(lambda status, time: (status, time), "finished", 1.0) == ("finished", 1.0)
    assert older.call(lambda *everything: everything, 1, 2) == (1, 2)
    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        older.call(lambda: None, 1)


RUN_OF_OLD = """\
[fine_tuner]
base_model_id = "old:model"
training_data_id = "old:sums"
validation_data_id = "old:sums"
load_in_4bit = false
max_sequence_length = 128
learning_rate = 0.1
report_to = "old"
optimizer = "adamw_torch"
use_gradient_checkpointing = false

[stages]
launcher = "old"
loader = "old"
trainer = "old"
savers = ["old"]

[run]
sample_answers = 1

[old]
rows = 6
"""


@pytest.mark.slow
def test_a_wheel_from_the_first_day_serves_a_run(tmp_path: Path) -> None:
    """Its source lies beside it and is frozen too: acme_old/acme_old.py."""
    (tmp_path / "config.toml").write_text(RUN_OF_OLD, encoding="utf-8")
    script = (
        "from pathlib import Path; from ftcore.testing.models import tiny_model; tiny_model(Path('model'));"
        "from ftcore.cli.main import main; main(['run', 'config.toml'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(OLD_WHEEL), "OMP_NUM_THREADS": "1"}
    options: Any = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", script], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout.lower()

    run = tmp_path / "runs" / "old-run"
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "finished"
    assert manifest["metrics"]["eval_loss"] < manifest["metrics"]["eval_loss_before"]
    reported = [json.loads(line) for line in (run / "old-reporter.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (reported[0], reported[-1]) == (["start", "old-run"], ["finish", "finished"])
    assert [values[1] for values in reported if values[0] == "log" and values[2] == ["loss"]] == [1, 2, 3, 4, 5, 6]
    assert (run / "old-model" / "model.safetensors").exists()
    assert (run / "old-status.txt").read_text(encoding="utf-8") == "finished"
    assert "old as the hills" in (run / "config.toml").read_text(encoding="utf-8")

    hello = subprocess.run([sys.executable, "-m", "ftcore", "old-hello"], **options)
    assert hello.stdout == "hello from 0.1.0\n", hello.stderr


def test_the_frozen_wheel_is_the_source_beside_it() -> None:
    from zipfile import ZipFile

    with ZipFile(OLD_WHEEL) as wheel:
        assert wheel.read("acme_old.py").decode("utf-8") == (HERE / "acme_old" / "acme_old.py").read_text(
            encoding="utf-8"
        )


RENAMED = """\
from typing import ClassVar
from ftcore import hookimpl
from ftcore.settings import Section
class AcmeSettings(Section):
    "Acme."
    renamed_keys: ClassVar = {"zone": "region", "key": "folder"}
    region: str = "north"
    "Where."
    folder: str = "a"
    "Which."
    limit: int = 1
    "How many."
@hookimpl
def ftcore_settings():
    return AcmeSettings
@hookimpl
def ftcore_name_run(settings):
    return f"acme-{settings.region}-{settings.folder}-{settings.limit}"
"""
OLD_CONFIG = """\
extends = "base.toml"
[fine_tuner]
base_model_id = "m"
training_data_id = "data.jsonl"

[acme]
zone = "south"
"""


@pytest.fixture
def renamed_keys(install: Any, tmp_path: Path) -> Path:
    """A configuration that names keys of a plugin as they were called, also in a file that it extends."""
    install("acme-ftcore", {"acme_renamed": RENAMED}, {"acme": "acme_renamed"})
    (tmp_path / "data.jsonl").write_text('{"question": "a", "answer": "b"}\n', encoding="utf-8")
    (tmp_path / "base.toml").write_text('[acme]\nregion = "east"\nkey = "b"\n', encoding="utf-8")
    config = tmp_path / "config.toml"
    config.write_text(OLD_CONFIG, encoding="utf-8")
    return config


def test_a_renamed_key_is_read_under_its_old_name(renamed_keys: Path, ftcore: Any) -> None:
    from ftcore.config import load

    config = load(renamed_keys, discover(), ["acme.key=c"])
    section: Any = config.section("acme")
    assert (section.region, section.folder, section.limit) == ("south", "c", 1)
    assert config.was_given("acme", "region")
    assert config.locate("acme.region") == f"{renamed_keys}:7"
    outcome = ftcore("check", str(renamed_keys), "--set", "acme.key=c")
    said = [line for line in (outcome.out + outcome.err).splitlines() if "is called" in line]
    goes = "and the old name goes away. Write"
    assert (outcome.code, said) == (
        0,
        [
            f"{renamed_keys}:7: warning: zone of [acme] is called region now, {goes} region",
            f"{renamed_keys.parent / 'base.toml'}:3: warning: key of [acme] is called folder now, {goes} folder",
            f"--set acme.key: warning: key of [acme] is called folder now, {goes} folder",
        ],
    )


def test_an_error_in_a_renamed_key_has_its_line_and_both_names_are_one_too_many(
    renamed_keys: Path, ftcore: Any
) -> None:
    renamed_keys.write_text(OLD_CONFIG.replace('"south"', "3"), encoding="utf-8")
    assert ftcore("check", str(renamed_keys)).errors[0].startswith(f"error: {renamed_keys}:7: ")
    renamed_keys.write_text(OLD_CONFIG + 'region = "west"\n', encoding="utf-8")
    assert "has no key 'zone'" in ftcore("check", str(renamed_keys)).errors[0]


def test_editors_know_the_old_name_as_deprecated(renamed_keys: Path) -> None:
    from ftcore.schema import config_schema

    properties = config_schema(discover())["properties"]["acme"]["properties"]
    assert properties["zone"] == {**properties["region"], "deprecated": True}
