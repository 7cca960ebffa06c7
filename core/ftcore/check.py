"""Everything that can be said about a configuration without importing torch."""

from __future__ import annotations

from collections.abc import Iterator

from ftcore.config import Config, describe
from ftcore.errors import FtcoreError, InvalidConfig, PluginError, Problem
from ftcore.plugins import Plugins
from ftcore.selection import Choice, choices
from ftcore.settings.contradictions import contradictions

_EVERY_RUN = frozenset({"ftcore_check", "ftcore_run_started", "ftcore_run_finished", "ftcore_run_failed"})


def check(config: Config, plugins: Plugins) -> tuple[list[Choice], list[str]]:
    """Choose the plugins and ask all of them for problems.

    Returns:
        The choices, and the warnings, one line each.

    Raises:
        PluginError: a plugin that the configuration needs cannot serve.
        InvalidConfig: with one line for each problem found.
    """
    selected: list[Choice] = []
    problems = list(contradictions(config.given.get("fine_tuner", {})))
    blame: FtcoreError | None = None
    try:
        selected = choices(config, plugins)
    except FtcoreError as error:
        blame = error
    problems += _asked(config, plugins)
    if selected:
        problems += _idle_sections(config, plugins, selected)
    errors = [problem for problem in problems if problem.severity == "error"]
    if blame is not None and not errors:
        raise blame
    if errors:
        lines = [describe(problem, config.path, config.lines) for problem in errors]
        raise InvalidConfig(lines + ([str(blame)] if blame else []))
    return selected, [describe(problem, config.path, config.lines) for problem in problems] + _broken(plugins)


def _asked(config: Config, plugins: Plugins) -> Iterator[Problem]:
    for name in plugins.implementing("ftcore_check"):
        answer = plugins.call("ftcore_check", name, config=config, settings=config.section(name))
        for problem in answer or ():
            if not isinstance(problem, Problem):
                raise PluginError(f"{plugins.get(name)} broke its contract", why="ftcore_check must yield Problems")
            yield problem


def _idle_sections(config: Config, plugins: Plugins, selected: list[Choice]) -> Iterator[Problem]:
    """Sections whose plugin has no part in this run: nothing that a user wrote is ignored in silence."""
    active = {choice.plugin for choice in selected}
    undecided = plugins.serving("formatter") if config.stages.formatter == "auto" else []
    for name in config.given.keys() & config.sections.keys() - active - set(undecided):
        record = plugins.get(name)
        if record is None or not config.given[name] or _EVERY_RUN & set(record.hooks) - {"ftcore_check"}:
            continue
        if name == "mlflow" and all(key.startswith("run_name") for key in config.given[name]):
            continue  # these keys name the run for every tracker
        serves = " and ".join(record.stages) or "nothing"
        yield Problem(
            name, f"[{name}] has no effect: {record} serves {serves}, and this run does not use it", severity="warning"
        )


def _broken(plugins: Plugins) -> list[str]:
    return [f"warning: {record} is broken: {record.reason}" for record in plugins.records if record.state == "broken"]
