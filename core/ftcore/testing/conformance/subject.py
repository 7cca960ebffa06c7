"""The plugin that rules are held against, and what they need to try it: configurations, runs, a tiny model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from ftcore import config as configs
from ftcore.config import Config
from ftcore.errors import PluginError
from ftcore.plugins import Plugins, discover
from ftcore.plugins.discovery import PluginRecord
from ftcore.plugins.selection import choices
from ftcore.run import runs
from ftcore.run.runs import ActiveRun
from ftcore.run.stages import Stages
from ftcore.testing.conformance.rule import KINDS, Broken, NotTried
from ftcore.testing.conformance.setup import PluginSetup
from ftcore.testing.project import Project

Tables = Mapping[str, Mapping[str, Any]]

_NEEDS_MODEL = frozenset({"loader", "trainer", "saver"})


@dataclass(frozen=True)
class Scene:
    """A configuration in which the plugin serves, and a run of it that has begun.

    Attributes:
        config: the configuration.
        run: a run with a directory of its own.
        stages: the configuration's chosen plugins.
        settings: the plugin's own section, None where it has none.
    """

    config: Config
    run: ActiveRun
    stages: Stages
    settings: Any


class Subject:
    """The plugin that rules are held against.

    Args:
        name: the plugin's name.
        setup: what it needs to be tried.
        folder: an empty folder for everything that a rule writes.
        model: makes the folder of the tiny model.
        kinds: what is looked at; by default what the plugin's hooks serve.

    Raises:
        ValueError: there is no such kind.
    """

    def __init__(
        self,
        name: str,
        setup: PluginSetup,
        folder: Path,
        model: Callable[[], Path],
        kinds: tuple[str, ...] | None = None,
    ) -> None:
        if unknown := set(kinds or ()) - set(KINDS):
            raise ValueError(f"there is no kind {', '.join(sorted(unknown))}; kinds are {', '.join(KINDS)}")
        self.name, self.setup, self.folder = name, setup, folder
        self.plugins: Plugins = discover(disabled=())
        self.kinds = kinds_of(name, self.plugins) if kinds is None else kinds
        self.project = Project(folder / "project", model)
        self._model = model
        self._runs: list[ActiveRun] = []

    @property
    def found(self) -> PluginRecord | None:
        """What is known about the plugin, also of a broken one; None where it is not installed."""
        return self.plugins.get(self.name)

    @property
    def record(self) -> PluginRecord:
        """The plugin's record.

        Raises:
            NotTried: it does not load, which is a rule of its own.
        """
        record = self.found
        if record is None or record.state != "ok":
            raise NotTried(f"the plugin '{self.name}' does not load")
        return record

    @property
    def plugin(self) -> Any:
        """The plugin's module or object."""
        assert self.record
        return self.plugins.manager.get_plugin(self.name)

    @property
    def model(self) -> Path:
        """The folder of the tiny model and its tokenizer."""
        return self._model()

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """A cache of its own; the runs that a rule began are closed in the end."""
        self.project.path.mkdir(parents=True, exist_ok=True)
        with mock.patch.dict(os.environ, {"FTCORE_CACHE": str(self.folder / "cache")}):
            try:
                yield
            finally:
                while self._runs:
                    self._runs.pop().close()

    def config(self, kind: str = "", more: Tables | None = None) -> Config:
        """A valid configuration in which the plugin serves as `kind`; with "", one that gives it no part.

        Args:
            more: tables that stand over the others.

        Raises:
            Broken: it is not valid; the message says what the plugin must be given.
        """
        tables = merged(self._tables(kind), self.setup.config, more or {})
        path = self.project.config(tables)
        loaded = configs.load(path, self.plugins)
        if problems := loaded.incomplete.get(self.name):
            said = "; ".join(f"{problem.where}: {problem.message}" for problem in problems)
            fix = f"give them as config.{problems[0].where} = … in {where(self.name)}, or give the keys defaults"
            raise Broken(f"its section needs values to be tried ({said})", fix)
        return loaded

    def scene(self, kind: str, more: Tables | None = None) -> Scene:
        """A configuration as of `config`, and a run of it that has just begun."""
        assert self.record
        config = self.config(kind, more)
        selected = choices(config, self.plugins)
        run = runs.create(config, self.plugins, selected, f"run-{len(self._runs) + 1}", datetime.now().astimezone())
        self._runs.append(run)
        return Scene(config, run, Stages(config, self.plugins, selected), config.section(self.name))

    def call(self, hook: str, /, **arguments: Any) -> Any:
        """The plugin's answer to a hook; what it raises, as it raised it."""
        with as_raised():
            return self.plugins.call(hook, self.name, **arguments)

    def expect(self, kind: Any, hook: str, /, **arguments: Any) -> Any:
        """As `call`; the answer must be of that type."""
        with as_raised():
            return self.plugins.expect(kind, hook, self.name, **arguments)

    def _tables(self, kind: str) -> dict[str, dict[str, Any]]:
        fine_tuner: dict[str, Any] = {} if kind in _NEEDS_MODEL else {"base_model_id": "tiny-model"}
        tables = {"fine_tuner": fine_tuner, "run": {"output_dir": str(self.folder / "runs")}, "stages": {}}
        if kind == "reporter":
            fine_tuner["report_to"] = self.name
        elif kind == "saver":
            tables["stages"]["savers"] = list(dict.fromkeys(["local", self.name]))
        elif kind == "data":
            fine_tuner["training_data_id"] = self.setup.data or f"{self.name}:data"
        elif kind == "model":
            fine_tuner["base_model_id"] = self.setup.model or f"{self.name}:model"
        elif kind in ("loader", "formatter", "trainer", "launcher"):
            tables["stages"][kind] = self.name
        return tables


def kinds_of(name: str, plugins: Plugins) -> tuple[str, ...]:
    """The kinds that a plugin's hooks serve, in the order of the rules."""
    record = plugins.get(name)
    return tuple(kind for kind in KINDS if record is not None and kind in record.stages)


def where(name: str) -> str:
    """Where a plugin is given what it needs, for messages."""
    return f"the fixture ftcore_conformance or [tool.ftcore.conformance.{name}]"


def merged(*tables: Tables) -> dict[str, dict[str, Any]]:
    """Tables of a configuration, the later ones over the earlier ones, key by key."""
    together: dict[str, dict[str, Any]] = {}
    for each in tables:
        for section, values in each.items():
            together[section] = {**together.get(section, {}), **values}
    return together


@contextlib.contextmanager
def as_raised() -> Iterator[None]:
    """What core makes of a plugin's unexpected error is the error again."""
    try:
        yield
    except PluginError as error:
        if error.__cause__ is not None and " failed in " in error.what:
            raise error.__cause__ from None
        raise
