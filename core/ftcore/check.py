"""Everything that can be said about a configuration without importing torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcore import config as configs
from ftcore import templates
from ftcore.config import Config, in_order, policy
from ftcore.errors import ConfigError, FtcoreError, InvalidConfig, PluginError, Problem
from ftcore.hookspecs import PROJECT
from ftcore.plugins import DISABLE_VARIABLE, Plugins
from ftcore.plugins.selection import Choice, choices
from ftcore.run import runs
from ftcore.settings.contradictions import contradictions
from ftcore.text import shown

_LISTENS = frozenset({"ftcore_run_started", "ftcore_run_finished", "ftcore_run_failed"})
_PATHS = ("base_model_id", "training_data_id", "validation_data_id", "chat_template")  # or ids, which may be paths
_SOME_TIME = "20250629-143022"  # stands for the name that the start's time will give


def check(config: Config, plugins: Plugins) -> tuple[list[Choice], list[str]]:
    """Choose the plugins and ask all of them for problems.

    Returns:
        The choices, and the warnings, one line each.

    Raises:
        PluginError: a plugin that the configuration needs cannot serve.
        InvalidConfig: with one line for each problem found.
    """
    selected, problems, blame = _found(config, plugins)
    errors = [problem for problem in problems if problem.severity == "error"]
    if blame is not None and not errors:
        raise blame
    if errors:
        raise InvalidConfig(in_order(config.source, errors) + ([str(blame)] if blame else []))
    return selected, in_order(config.source, problems) + _broken(plugins) + _left_out(plugins) + _outdated(
        config, plugins
    )


def read(path: Path, plugins: Plugins, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration, as `ftcore.config.load`.

    Where it cannot be used, what `check` would say after that is mended is told with it, as far as it can be known: all of
    it where nothing but locked keys is wrong, else what does not depend on the other mistakes.

    Raises:
        ConfigError: the file, or one that it extends, cannot be read or is not TOML.
        PluginError: a plugin has failed to give its policy, or a configuration to extend; or one that is named, and whose
            section stands there, cannot be used.
        InvalidConfig: with one line for each problem.
    """
    reading = configs.read(path, plugins, overrides)
    if reading.valid or reading.config is None:
        return reading.required()
    blame: FtcoreError | None
    if reading.forbidden:
        _, problems, blame = _found(reading.config, plugins)
    else:
        problems, blame = _apart(reading.config, reading.wrong, plugins)
    more = [problem for problem in problems if problem.severity == "error"]
    told = [problem for problem in reading.problems if not _is_blamed(problem, blame, plugins)]
    if blame is not None and not any(problem.severity == "error" for problem in [*told, *more]):
        raise blame
    lines = in_order(reading.source, [*told, *more]) + (str(blame).splitlines() if blame else [])
    raise InvalidConfig(list(dict.fromkeys(lines)))


def _is_blamed(problem: Problem, blame: FtcoreError | None, plugins: Plugins) -> bool:
    """Whether a section cannot be used since its plugin is broken or disabled, which is said where a stage names it."""
    record = plugins.get(problem.where)
    return record is not None and record.state != "ok" and f"{record}: {record.reason}" in str(blame)


def _found(config: Config, plugins: Plugins) -> tuple[list[Choice], list[Problem], FtcoreError | None]:
    """The choices, the problems, and which plugins cannot serve."""
    blame: FtcoreError | None = None
    selected: list[Choice] = []
    try:
        selected = choices(config, plugins)
    except FtcoreError as error:
        blame = error
    active = {choice.plugin for choice in selected} | deciding(config, plugins)
    problems = [*contradictions(config.given), *_own(config)]
    problems += [problem for name in sorted(active) for problem in config.incomplete.get(name, ())]
    problems += _asked(config, plugins, active)
    if blame is None:
        problems += _idle_sections(config, plugins, active)
    return selected, problems, blame


def _apart(config: Config, wrong: Collection[str], plugins: Plugins) -> tuple[list[Problem], FtcoreError | None]:
    """What can be said though some keys are wrong, since it does not depend on them."""
    sections = {key.partition(".")[0] for key in wrong}
    problems = [
        problem for problem in _own(config) if problem.where.partition(".")[0] not in sections & {"run", "mlflow"}
    ]
    try:
        choices(config, plugins, without=wrong)
    except FtcoreError as error:
        return problems, error
    return problems, None


def _own(config: Config) -> Iterator[Problem]:
    """What ftcore itself has to say about single keys."""
    yield from _run_name(config)
    yield from _output_dir(config)
    wrong = list(_paths(config))
    yield from wrong
    if "fine_tuner.chat_template" not in {problem.where for problem in wrong}:
        yield from _template(config)


def _template(config: Config) -> Iterator[Problem]:
    yield from templates.problems(config.fine_tuner.chat_template, config.folder("fine_tuner.chat_template"))


def preflight(config: Config, plugins: Plugins, selected: Iterable[Choice], run_name: str) -> list[str]:
    """Ask the chosen plugins, and those with a policy, what would fail at the end of the run; they may use the network.

    Returns:
        The warnings, one line each.

    Raises:
        InvalidConfig: with one line for each problem found.
        PluginError: a plugin failed to answer.
    """
    asked = {choice.plugin for choice in selected} | deciding(config, plugins)
    return _required(config, _preflight(config, plugins, asked, run_name))


def ready(config: Config, plugins: Plugins, names: Iterable[str], run_name: str) -> list[str]:
    """As `check` and `preflight`, for a run that is there and of which only some plugins have work left.

    Returns:
        The warnings, one line each.

    Raises:
        InvalidConfig: with one line for each problem found.
        PluginError: a plugin failed to answer.
    """
    chosen = set(names)
    checked = [name for name in plugins.implementing("ftcore_check") if name in chosen]
    warnings = _required(config, [problem for name in checked for problem in _answer(config, plugins, name)])
    return warnings + _required(config, _preflight(config, plugins, chosen, run_name))


def deciding(config: Config, plugins: Plugins) -> set[str]:
    """The plugins that have a part in every run, or in this one whatever it does: those with policies, and with files
    that this configuration extends."""
    return {*policy.asked(plugins), *(layer.plugin for layer in config.source.layers if layer.plugin)}


def _preflight(config: Config, plugins: Plugins, chosen: set[str], run_name: str) -> list[Problem]:
    names = [name for name in plugins.implementing("ftcore_preflight") if name in chosen]
    answers = [_answer(config, plugins, name, "ftcore_preflight", run_name=run_name) for name in names]
    return [problem for answer in answers for problem in answer]


def _required(config: Config, found: list[Problem]) -> list[str]:
    """The warnings among the problems; any error is raised."""
    errors = [problem for problem in found if problem.severity == "error"]
    if errors:
        raise InvalidConfig(in_order(config.source, errors))
    return in_order(config.source, found)


def _run_name(config: Config) -> Iterator[Problem]:
    """What is wrong with the name, prefix and suffix as they are configured."""
    run = config.run
    if not (run.name or run.name_prefix or run.name_suffix):
        return
    given = next((key for key in ("name", "name_prefix", "name_suffix") if getattr(run, key)), "name")
    where = f"run.{given}" if config.was_given("run", given) else f"mlflow.run_{given}"
    try:
        runs.validate_name(f"{run.name_prefix}{run.name or _SOME_TIME}{run.name_suffix}", f"from {where}")
    except ConfigError as error:
        yield Problem(where, f"{error.what}: {error.why}", error.fix)


def _output_dir(config: Config) -> Iterator[Problem]:
    """Whether run directories can be made there, as far as that can be known without trying."""
    text = config.run.output_dir
    fix = "Choose another output_dir"
    try:
        folder = Path(text).expanduser().absolute()
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            yield Problem("run.output_dir", f"output_dir cannot be {shown(text)}: {folder} is no folder", fix)
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield Problem("run.output_dir", f"output_dir cannot be {shown(text)}: {folder} is not writable", fix)
    except (OSError, RuntimeError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        yield Problem("run.output_dir", f"output_dir cannot be {shown(text)}: {reason}", fix)


def _paths(config: Config) -> Iterator[Problem]:
    """What can be no path, whoever reads it."""
    settings = config.fine_tuner
    values = {key: getattr(settings, key) for key in _PATHS} | {"output_dir": config.run.output_dir}
    for key, value in values.items():
        where = "run.output_dir" if key == "output_dir" else f"fine_tuner.{key}"
        if value is not None and "\0" in value:
            yield Problem(where, f"{key} = {shown(value)} has a null byte in it", "Write the path without it")
        elif key != "output_dir" and value is not None and value.startswith("~"):
            try:
                Path(value).expanduser()
            except RuntimeError:
                message = f"{key} = {shown(value)} lies in the home of a user who is not here"
                yield Problem(where, message, "Write the whole path")


def _asked(config: Config, plugins: Plugins, active: Iterable[str]) -> Iterator[Problem]:
    """What the plugins find. One that fails to answer is fatal only where it has a part in the run."""
    for name in plugins.implementing("ftcore_check"):
        if name in config.incomplete:
            continue
        try:
            yield from _answer(config, plugins, name)
        except FtcoreError as error:
            yield Problem("", str(error), severity="error" if name in active else "warning")


def _answer(config: Config, plugins: Plugins, name: str, hook: str = "ftcore_check", **arguments: Any) -> list[Problem]:
    answer = plugins.call(hook, name, config=config, **arguments, settings=config.section(name))
    try:
        found = list(answer or ())
    except Exception as error:  # a generator raises only now
        why = f"{type(error).__name__}: {error}"
        raise PluginError(f"{plugins.get(name)} failed in {hook}", why=why) from error
    if not all(isinstance(problem, Problem) for problem in found):
        raise plugins.breach(name, f"{hook} must yield Problems")
    return [_signed(problem, name, plugins) for problem in found]


def _signed(problem: Problem, name: str, plugins: Plugins) -> Problem:
    """A problem with the name of the plugin whose rules made it one, where that is not plain from the key."""
    if name not in policy.asked(plugins) or problem.where.partition(".")[0] == name:
        return problem
    return replace(problem, message=f"{problem.message}, says {plugins.get(name)}")


def _idle_sections(config: Config, plugins: Plugins, active: Iterable[str]) -> Iterator[Problem]:
    """Sections whose plugin has no part in this run: nothing that a user wrote is ignored in silence."""
    undecided = plugins.serving("formatter") if config.stages.formatter == "auto" else []
    for name, table in config.given.items():
        record = plugins.get(name)
        if record is None or record.state == "broken" or not table or name in active or name in undecided:
            continue
        if record.wraps or _LISTENS & set(record.hooks):
            continue
        if name == "mlflow" and all(key.startswith("run_name") for key in table):
            continue  # these keys name the run for every tracker
        serves = f"serves {' and '.join(record.stages)}" if record.stages else "serves no stage"
        message = f"[{name}] has no effect: {record} {serves}, and this run does not use it"
        yield Problem(name, message, severity="warning")


def _broken(plugins: Plugins) -> list[str]:
    return [f"warning: {record} is broken: {record.reason}" for record in plugins.records if record.state == "broken"]


def _left_out(plugins: Plugins) -> list[str]:
    """Third parties' plugins that are disabled: whether one has a policy is not known unless it is imported."""
    return [
        f"warning: {record} is disabled ({DISABLE_VARIABLE}): if it has a policy, that does not count"
        for record in plugins.records
        if record.state == "disabled" and record.distribution != PROJECT
    ]


def _outdated(config: Config, plugins: Plugins) -> list[str]:
    used = [f"warning: {record}: {line}" for record in plugins.records for line in record.outdated]
    return [*config.outdated, *used]
