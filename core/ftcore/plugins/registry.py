"""The plugins of this environment, and the calls to their hooks.

A broken plugin is recorded, and only becomes an error where the configuration names it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pluggy

from ftcore import extras, hookspecs
from ftcore.errors import FtcoreError, PluginError
from ftcore.hookspecs import PROJECT
from ftcore.plugins import discovery
from ftcore.plugins.discovery import DISABLE_VARIABLE, STAGE_OF_HOOK, PluginRecord
from ftcore.plugins.importers import import_own, on_behalf_of
from ftcore.text import short

if TYPE_CHECKING:
    from ftcore.settings.base import Section
    from ftcore.trace import Trace

log = logging.getLogger(__name__)


class Plugins:
    """The plugins of this environment, and the calls to their hooks."""

    def __init__(self, records: Iterable[PluginRecord], manager: pluggy.PluginManager) -> None:
        self._records = {record.name: record for record in records}
        self._manager = manager
        self.trace: Trace | None = None
        """Who follows the calls, if anybody does."""

    @property
    def records(self) -> list[PluginRecord]:
        """Every plugin found, sorted by name."""
        return sorted(self._records.values(), key=lambda record: record.name)

    @property
    def manager(self) -> pluggy.PluginManager:
        """The pluggy manager underneath, for monitoring."""
        return self._manager

    @property
    def sections(self) -> dict[str, type[Section]]:
        """The models of the working plugins' own sections, by plugin name."""
        return {record.name: record.settings for record in self.records if record.settings is not None}

    def get(self, name: str) -> PluginRecord | None:
        """The record of a plugin, broken ones too."""
        return self._records.get(name)

    def serving(self, stage: str) -> list[str]:
        """The names of the working plugins that can serve a stage."""
        return [record.name for record in self.records if record.state == "ok" and stage in record.stages]

    def implementing(self, hook: str) -> list[str]:
        """The names of the working plugins that implement a hook themselves, in pluggy's call order."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        return [impl.plugin_name for impl in reversed(implementations) if not (impl.wrapper or impl.hookwrapper)]

    def require(self, stage: str, name: str, where: str) -> PluginRecord:
        """The plugin that shall serve a stage.

        Args:
            where: the key that names it, for the message.

        Raises:
            PluginError: it is not installed, disabled, broken, or serves other stages.
        """
        record = self._records.get(name)
        serving = self.serving(stage)
        others = ", ".join(serving) or "none"
        if record is None:
            close = get_close_matches(name, serving, n=1)
            command = extras.install_command(name)
            fix = "Install the plugin's package, or choose one of these; `ftcore plugins` lists them"
            raise PluginError(
                f'{where} = "{short(name)}" names no installed plugin',
                why=f"plugins that serve the stage {stage} here: {others}",
                fix=f"Type {command}" if command else f'Did you mean "{close[0]}"?' if close else fix,
            )
        if record.state != "ok":
            raise PluginError(
                f'{where} = "{name}" names a plugin that is {record.state}',
                why=f"{record}: {record.reason}",
                fix=record.remedy,
            )
        if stage not in record.stages:
            raise PluginError(
                f'{where} = "{name}" names a plugin that does not serve the stage {stage}',
                why=f"{record} serves {', '.join(record.stages) or 'no stage'}; {stage} is served by {others}",
                fix="Choose one of these",
            )
        return record

    def call(self, hook: str, plugin: str, /, **arguments: Any) -> Any:
        """Call one plugin's implementation of a hook, inside everybody's wrappers.

        Raises:
            FtcoreError: as the plugin raised it.
            PluginError: the plugin raised something else; it is named.
        """
        record = self._records[plugin]
        caller = self._caller(hook, plugin)
        try:
            with on_behalf_of(plugin):
                answer = caller(**arguments)
        except FtcoreError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{record} failed in {hook}", why=f"{type(error).__name__}: {error}", fix="Report it to its authors"
            ) from error
        if caller.spec is not None and caller.spec.opts["firstresult"]:
            return answer
        return answer[0] if answer else None  # of one plugin there is at most one answer

    def expect(self, kind: Any, hook: str, plugin: str, /, **arguments: Any) -> Any:
        """As `call`, but the answer must be of a type (or have the methods of a protocol).

        Raises:
            PluginError: the plugin answered something else; plugin, distribution and version are named.
        """
        answer = self.call(hook, plugin, **arguments)
        if got := _not_a(kind, answer):
            raise self.breach(plugin, f"{hook} must return a {kind.__name__} and returned {got}")
        return answer if self.trace is None else self.trace.followed(answer, kind, hook, plugin)

    def breach(self, plugin: str, why: str) -> PluginError:
        """The error for a plugin that does not keep to a hook's contract."""
        return breach(self._records[plugin], why)

    def _caller(self, hook: str, chosen: str) -> pluggy.HookCaller:
        caller = getattr(self._manager.hook, hook)
        left_out = {
            impl.plugin
            for impl in caller.get_hookimpls()
            if impl.plugin_name != chosen and not (impl.wrapper or impl.hookwrapper)
        }
        return self._manager.subset_hook_caller(hook, remove_plugins=left_out)


def breach(record: PluginRecord, why: str) -> PluginError:
    """The error for a plugin that does not keep to a contract."""
    fix = "Report it to its authors, or choose another plugin"
    return PluginError(f"{record} broke its contract", why=why, fix=fix)


def _not_a(kind: Any, answer: Any) -> str:
    """What the answer is instead of an instance (for a protocol: of something with its methods); else empty."""
    if answer is None:
        return "None"
    got = answer.__name__ if isinstance(answer, type) else f"a {type(answer).__name__}"
    if not getattr(kind, "_is_protocol", False):
        return "" if isinstance(answer, kind) else got
    if isinstance(answer, type):
        return f"the class {got}, not an instance of it"
    wanted = [name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")]
    wanted += ["__call__"] if "__call__" in vars(kind) else []
    missing = [name for name in wanted if not callable(getattr(answer, name, None))]
    return f"{got} without {', '.join(missing)}" if missing else ""


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows ftcore's hooks and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def discover(disabled: Iterable[str] | None = None) -> Plugins:
    """Load every plugin that is installed; a broken one is recorded, not raised.

    Args:
        disabled: names to leave out; by default those in the environment variable `FTCORE_DISABLE`.
    """
    left_out = set(_disabled_by_environment() if disabled is None else disabled)
    manager = new_manager()
    import_own()
    records: dict[str, PluginRecord] = {}
    for entry_point, record in discovery.entry_points():
        other = records.get(record.name)
        if record.name in left_out:
            records[record.name] = replace(record, state="disabled", reason=f"named in {DISABLE_VARIABLE}")
        elif other is not None:
            if other.state == "ok":
                manager.unregister(name=record.name)
            both = f"{other.distribution} and {record.distribution} both provide a plugin named '{record.name}'"
            records[record.name] = other.broken(both)
        else:
            records[record.name] = discovery.load(entry_point, record, manager)
    for name in sorted(left_out - records.keys()):
        close = get_close_matches(name, records, n=1)
        fix = f"Did you mean '{close[0]}'?" if close else "`ftcore plugins` lists them"
        log.warning("%s names '%s', which is no installed plugin. %s", DISABLE_VARIABLE, name, fix)
    return Plugins(records.values(), manager)


def _disabled_by_environment() -> list[str]:
    return [name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()]


__all__ = [
    "DISABLE_VARIABLE", "STAGE_OF_HOOK", "PluginRecord", "Plugins", "discover", "new_manager",
]  # fmt: skip
