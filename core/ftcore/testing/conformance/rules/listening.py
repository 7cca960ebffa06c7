"""Rules for the hooks that every plugin is asked, whether or not a configuration uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ftcore.contracts import Bid, DataView, Declined
from ftcore.errors import DataError, Problem
from ftcore.settings.data import DataSettings
from ftcore.testing.conformance.rule import rule
from ftcore.testing.conformance.subject import Subject

FOREIGN = {
    "base_model_id": "somebody/a-model",
    "training_data_id": "hf:somebody/data?split=train",
    "validation_data_id": "elsewhere/data.jsonl",
}
"""A model and data that are none of the plugin's."""

_COLUMNS: Sequence[Sequence[str]] = (("question", "answer"), ("text",), ("messages",), ("ünïcode", ""), ())


@rule(
    "plugin-check-answers",
    hooks=("ftcore_check",),
    why="ftcore_check is asked of every installed plugin; one that raises, or objects to what it has no part in, stops "
    "everybody's runs",
    fix="look first whether the configuration uses the plugin, and yield Problems",
)
def check_answers(subject: Subject) -> Iterator[str]:
    """Its ftcore_check yields Problems, and none that would stop a run in which it has no part."""
    config = subject.config(more={"fine_tuner": FOREIGN})
    answer = subject.call("ftcore_check", config=config, settings=config.section(subject.name))
    problems = list(answer or ())
    for problem in problems:
        if not isinstance(problem, Problem):
            yield f"ftcore_check yields a {type(problem).__name__}, not a Problem"
        elif problem.severity == "error" and not _has_a_part(subject):
            yield f"ftcore_check stops a run that does not use the plugin: {problem.where}: {problem.message}"


@rule(
    "plugin-bid-answers",
    hooks=("ftcore_bid",),
    why="every plugin is asked for an offer; one that raises stops everybody's runs",
    fix='return None for other stages and for data that are not yours, e.g. `if stage != "formatter" or data is None`',
)
def bid_answers(subject: Subject) -> Iterator[str]:
    """Its ftcore_bid takes every stage, model and data, and offers to serve only what it can."""
    config = subject.config(more={"fine_tuner": FOREIGN})
    settings = config.fine_tuner.view(DataSettings)
    views = [DataView(columns, settings, [dict.fromkeys(columns, "a text")]) for columns in _COLUMNS]
    questions: list[tuple[str, DataView | None]] = [("loader", None), *(("formatter", view) for view in views)]
    for stage, data in questions:
        answer = subject.call("ftcore_bid", stage=stage, config=config, data=data)
        if answer is not None and not isinstance(answer, Bid | Declined):
            yield f"its offer for the stage {stage} is a {type(answer).__name__}, not a Bid, Declined or None"
        elif isinstance(answer, Bid) and stage not in subject.record.stages:
            yield f"it offers to serve as {stage}, and has no hook for that"


@rule(
    "plugin-listens-quietly",
    hooks=("ftcore_run_started", "ftcore_run_finished", "ftcore_run_failed"),
    why="every error there is a warning in every run, also in those that do not use the plugin",
    fix="take the run as it is: its directory may have other files, its settings no section of yours",
)
def listens_quietly(subject: Subject) -> Iterator[str]:
    """Its ftcore_run_started, ftcore_run_finished and ftcore_run_failed raise nothing in a run without a part for it."""
    calls: dict[str, dict[str, Any]] = {
        "ftcore_run_started": {},
        "ftcore_run_finished": {"status": "interrupted"},
        "ftcore_run_failed": {"error": DataError("the data are gone")},
    }
    scene = subject.scene("")
    for hook, arguments in calls.items():
        if hook in subject.record.hooks:
            subject.call(hook, run=scene.run, settings=scene.settings, **arguments)
    yield from ()


@rule(
    "plugin-commands",
    hooks=("ftcore_register_commands",),
    why="ftcore drops a command that has the name of one of its own",
    fix="choose another name, best one that begins with the plugin's",
)
def commands(subject: Subject) -> Iterator[str]:
    """The commands that it registers are new ones, with a help text each."""
    import click

    from ftcore.cli.main import COMMANDS

    group = click.Group("ftcore")
    subject.call("ftcore_register_commands", cli=group, settings=None)
    if not group.commands:
        yield "it registers none"
    for name, command in group.commands.items():
        if name in COMMANDS:
            yield f"'{name}' is a command of ftcore's"
        if not (command.help or "").strip():
            yield f"'{name}' has no help text"


def _has_a_part(subject: Subject) -> bool:
    """Whether the plugin serves in every run: as the default of a stage, or because it has a policy."""
    config = subject.config(more={"fine_tuner": FOREIGN})
    from ftcore.plugins.selection import choices

    chosen = {choice.plugin for choice in choices(config, subject.plugins)}
    return subject.name in chosen or "ftcore_policy" in subject.record.hooks
