"""The rules as pytest's items: `pytest --ftcore-plugin NAME`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcore.testing.conformance.check import rules_for
from ftcore.testing.conformance.report import Outcome
from ftcore.testing.conformance.rule import KINDS, Rule, hold
from ftcore.testing.conformance.setup import PluginSetup
from ftcore.testing.conformance.subject import Subject, kinds_of

FIXTURE = "ftcore_conformance"
"""The fixture by which a plugin is given what it needs."""


class BrokenRule(Exception):
    """A plugin breaks a rule; the item shows it without a traceback."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(str(outcome))


class PluginRules(pytest.Collector):
    """The rules of one plugin."""

    def __init__(self, plugin: str, kinds: tuple[str, ...], rules: list[Rule], **more: Any) -> None:
        super().__init__(**more)
        self.plugin, self.kinds, self.rules = plugin, kinds, rules

    def collect(self) -> Iterator[pytest.Item]:
        for rule in self.rules:
            yield RuleItem.from_parent(self, name=rule.id, callobj=_test(rule, self.plugin, self.kinds))


class RuleItem(pytest.Function):
    """One rule, held against one plugin; fixtures are there for it as for any test."""

    parent: PluginRules

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        if isinstance(excinfo.value, BrokenRule):
            return f"plugin '{self.parent.plugin}' breaks {excinfo.value.outcome}"
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.nodeid


def items(session: pytest.Session, names: list[str], kinds: list[str]) -> list[pytest.Item]:
    """One item for each rule for each plugin.

    Raises:
        pytest.UsageError: there is no such plugin, or no such kind.
    """
    from ftcore.plugins import discover

    plugins = discover(disabled=())
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise pytest.UsageError(f"--ftcore-kind {unknown[0]}: the kinds are {', '.join(KINDS)}")
    found: list[pytest.Item] = []
    for name in dict.fromkeys(names):
        record = plugins.get(name)
        if record is None:
            installed = ", ".join(record.name for record in plugins.records)
            raise pytest.UsageError(f"--ftcore-plugin {name}: no such plugin is installed (there are {installed})")
        looked_at = tuple(kinds) or kinds_of(name, plugins)
        parent = PluginRules.from_parent(
            _home(session),
            name=name,
            nodeid=f"ftcore-plugin/{name}",
            plugin=name,
            kinds=looked_at,
            rules=rules_for(looked_at, record),
        )
        found += parent.collect()
    return found


def note(collector: pytest.Directory) -> None:
    """Keep the node of a folder: fixtures of its `conftest.py` are seen by what lies below that node, and no other."""
    collector.config.stash.setdefault(_FOLDERS, {})[collector.path] = collector


_FOLDERS = pytest.StashKey[dict[Path, pytest.Directory]]()


def _home(session: pytest.Session) -> pytest.Collector:
    """Where the items belong: where the fixture is, if a conftest.py has it, so that they see it."""
    for plugin in session.config.pluginmanager.get_plugins():
        file = getattr(plugin, "__file__", None)
        if file and Path(file).name == "conftest.py" and hasattr(plugin, FIXTURE):
            folder = Path(file).parent
            if folder == session.path:
                return session
            return session.config.stash.get(_FOLDERS, {}).get(folder) or _collected(session, folder)
    return session


def _collected(session: pytest.Session, folder: Path) -> pytest.Collector:
    """The node of a folder in which pytest was not asked to look; its conftest.py's fixtures belong to it then."""
    node = pytest.Dir.from_parent(session, path=folder)
    session.config.hook.pytest_make_collect_report(collector=node)
    return node


def _test(rule: Rule, plugin: str, kinds: tuple[str, ...]) -> Callable[..., None]:
    def test(ftcore_conformance: Any, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        setup = setup_of(ftcore_conformance, plugin, request.config.rootpath)
        outcome = hold(rule, Subject(plugin, setup, tmp_path, lambda: request.getfixturevalue("ftcore_model"), kinds))
        if outcome.status == "failed":
            raise BrokenRule(outcome)
        if outcome.status == "skipped":
            pytest.skip(f"{rule.id}: {outcome.found[0]}")  # pytest -rs tells nothing else of the item

    test.__doc__ = rule.what
    return test


def setup_of(given: PluginSetup | Mapping[str, PluginSetup] | None, plugin: str, start: Path) -> PluginSetup:
    """What a plugin is given: by the fixture, for it or for all, or else by the pyproject.toml."""
    found = given.get(plugin) if isinstance(given, Mapping) else given
    return PluginSetup.from_pyproject(plugin, start) if found is None else found
