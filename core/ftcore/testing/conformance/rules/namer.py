"""Rules for namers: legal names, always the same ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from ftcore.errors import ConfigError
from ftcore.run.runs import validate_name
from ftcore.testing.conformance.rule import rule
from ftcore.testing.conformance.subject import Subject, Tables

_STARTED = datetime(2026, 11, 23, 9, 5, 7, tzinfo=UTC)

_CONFIGURATIONS: tuple[Tables, ...] = (
    {},
    {"run": {"name": "exp-1"}},
    {"run": {"name_prefix": "team_", "name_suffix": ".v2"}},
    {"fine_tuner": {"base_model_id": "some-organisation/" + "A-Model-With-A-Long-Name-" * 4 + "8B"}},
    {"fine_tuner": {"base_model_id": "/models/with spaces/and ümläuts (copy)", "training_data_id": "hf:a/b?split=x y"}},
)
"""What a namer may have to make a name of."""


@rule(
    "namer-legal",
    why="the name is a folder, and a repository on the Hub: what one of them refuses ends the run",
    fix="use letters, digits, '.', '_' and '-', at most 96; replace what a model's or a file's name brings along",
)
def legal(subject: Subject) -> Iterator[str]:
    """Its names can be folders and repositories, whatever the configuration says; None leaves it to others."""
    for name in _names(subject):
        if name is None:
            continue
        if not isinstance(name, str):
            yield f"it answered with a {type(name).__name__}, not a text or None"
            continue
        try:
            validate_name(name, f"named by the plugin '{subject.name}'")
        except ConfigError as error:
            yield f"{error.what}: {error.why}"


@rule(
    "namer-deterministic",
    why="the name is asked for again, by `ftcore check` and by launchers, and must not be another one then",
    fix="make it of the configuration and of `started_at`; no random number, no clock, no counter",
)
def deterministic(subject: Subject) -> Iterator[str]:
    """The same configuration and time give the same name."""
    for one, other in zip(_names(subject), _names(subject), strict=True):
        if one != other:
            yield f"it gave {one!r}, and then {other!r}"


@rule(
    "namer-keeps-given-name",
    why="somebody who sets [run] name looks for the run under that name",
    fix="return None where config.run.name is set, or let your name contain it",
)
def keeps_given_name(subject: Subject) -> Iterator[str]:
    """A name that the configuration gives is in its name."""
    name = _names(subject)[1]
    if name is not None and "exp-1" not in str(name):
        yield f'with [run] name = "exp-1" it gave {name!r}'


@rule(
    "namer-writes-nothing",
    why="a name is asked for before it is known whether there will be a run",
    fix="leave files to ftcore_run_started",
)
def writes_nothing(subject: Subject) -> Iterator[str]:
    """It makes no file or folder."""
    here = subject.folder / "here"
    here.mkdir()
    with contextlib.chdir(here):
        _names(subject)
    made = [path.name for folder in (here, subject.folder / "runs") if folder.exists() for path in folder.iterdir()]
    if made:
        yield f"it made {', '.join(sorted(made))}"


def _names(subject: Subject) -> list[object]:
    assert subject.record
    names = []
    for tables in _CONFIGURATIONS:
        config = subject.config("namer", tables)
        settings = config.section(subject.name)
        names.append(subject.call("ftcore_name_run", config=config, started_at=_STARTED, settings=settings))
    return names
