"""`ftcore plugins why CONFIG`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.cli.table import table

if TYPE_CHECKING:
    from ftcore.plugins import Plugins
    from ftcore.plugins.answers import Answer
    from ftcore.plugins.selection import Choice


@click.command()
@config_argument
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def why(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say who serves each stage of the run that CONFIG describes, and who answers each hook, in which order.

    What costs nothing is asked, and timed: settings, policies, offers, checks. No run begins.
    """
    from ftcore.plugins import discover
    from ftcore.plugins.answers import ask
    from ftcore.secrets import masked

    found = discover()
    selected, answers = ask(config, found, overrides)
    if as_json:
        facts = masked({"stages": _stages(selected, found), "hooks": _hooks(answers, found)})
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    stages = [("STAGE", "PLUGIN", "PACKAGE", "WHY")]
    stages += [(choice.stage, choice.plugin or "–", _package(choice.plugin, found), choice.why) for choice in selected]
    table(stages)
    click.echo()
    table([("HOOK", "TURN", "PLUGIN", "PACKAGE", "ASKED IN", "ANSWER"), *_rows(answers, found)])


def _rows(answers: Sequence[Answer], plugins: Plugins) -> Iterator[tuple[str, ...]]:
    """A row for each plugin that is asked, in the hooks' order; those that are not share one."""
    from ftcore.text import duration

    for hook in dict.fromkeys(answer.hook for answer in answers):
        mine = [answer for answer in answers if answer.hook == hook]
        for answer in mine:
            if answer.order:
                took = "–" if answer.seconds is None else duration(answer.seconds)
                package = _package(answer.plugin, plugins)
                yield (hook, str(answer.order), answer.plugin, package, took, answer.text)
        if idle := [answer for answer in mine if not answer.order]:
            whom = "; ".join(f"{answer.plugin} {answer.text}" for answer in idle)
            yield (hook, "–", "–", "–", "–", f"not asked: {whom}")


def _stages(selected: Sequence[Choice], plugins: Plugins) -> list[dict[str, Any]]:
    return [{**vars(choice), **_from(choice.plugin, plugins)} for choice in selected]


def _hooks(answers: Sequence[Answer], plugins: Plugins) -> list[dict[str, Any]]:
    return [{**vars(answer), **_from(answer.plugin, plugins)} for answer in answers]


def _from(name: str, plugins: Plugins) -> dict[str, str | None]:
    record = plugins.get(name)
    return {"distribution": record.distribution if record else None, "version": record.version if record else None}


def _package(name: str, plugins: Plugins) -> str:
    record = plugins.get(name)
    return f"{record.distribution} {record.version}" if record else "–"
