"""Holding a plugin against the rules, in one call."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

from ftcore.plugins.discovery import PluginRecord
from ftcore.testing.conformance.report import Report
from ftcore.testing.conformance.rule import EVERY, KINDS, Rule, hold
from ftcore.testing.conformance.setup import PluginSetup
from ftcore.testing.conformance.subject import Subject


def check_plugin(name: str, kinds: Sequence[str] | None = None, setup: PluginSetup | None = None) -> Report:
    """See `ftcore.testing.check_plugin`."""
    given = PluginSetup.from_pyproject(name, Path.cwd()) if setup is None else setup
    with tempfile.TemporaryDirectory(prefix="ftcore-conformance-") as scratch:
        folder = Path(scratch)

        @cache
        def model() -> Path:
            from ftcore.testing.models import tiny_model

            return tiny_model(folder / "model")

        wanted = None if kinds is None else tuple(kinds)
        first = Subject(name, given, folder / "first", model, wanted)
        outcomes = [
            hold(each, Subject(name, given, folder / each.id, model, first.kinds))
            for each in rules_for(first.kinds, first.found)
        ]
        report = Report(str(first.found or f"plugin '{name}'"), first.kinds, tuple(outcomes))
    if report.of("failed"):
        raise AssertionError(str(report))
    return report


def rules_for(kinds: Sequence[str], record: PluginRecord | None) -> list[Rule]:
    """The rules for a plugin as these kinds, those for every plugin first; what it does not serve is one rule's matter."""
    hooks = set(() if record is None else record.hooks)
    wanted = {EVERY, *kinds} & {EVERY, *(() if record is None else record.stages)}
    return [each for each in all_rules() if each.kind in wanted and (not each.hooks or hooks & set(each.hooks))]


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule there is."""
    package = __name__.rpartition(".")[0]
    modules = [import_module(f"{package}.rules.{name}") for name in ("plugin", "settings", "listening", *KINDS)]
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Rule))
