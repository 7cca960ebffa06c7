"""Finding plugins, refusing the broken ones, and calling the chosen ones.

pluggy alone would abort on the first bad import, keep a rejected plugin registered, take a default argument for the
real value, and skip a duplicate name in silence. Here each plugin is loaded on its own, and what is wrong with it is
recorded; it only becomes an error where the configuration names that plugin.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Literal

import pluggy

from ftcore import hookspecs
from ftcore.errors import FtcoreError, PluginError
from ftcore.hookspecs import PROJECT

log = logging.getLogger(__name__)

DISABLE_VARIABLE = "FTCORE_DISABLE"
"""An environment variable with the names of plugins to leave out, separated by commas."""

STAGE_OF_HOOK = {
    "ftcore_launch": "launcher",
    "ftcore_make_loader": "loader",
    "ftcore_make_formatter": "formatter",
    "ftcore_make_trainer": "trainer",
    "ftcore_save": "saver",
    "ftcore_make_reporter": "reporter",
    "ftcore_load_dataset": "data",
    "ftcore_resolve_model": "model",
    "ftcore_name_run": "namer",
}
"""Which hook makes a plugin serve which stage."""

HOOK_OF_STAGE = {stage: hook for hook, stage in STAGE_OF_HOOK.items()}

RESERVED = frozenset({"auto", "none", "null", "fine_tuner", "stages", "run", "audit", "extends"})
"""Names that mean something else in a configuration."""


@dataclass(frozen=True)
class PluginRecord:
    """What is known about one entry point of the group `ftcore`.

    Attributes:
        name: the entry point's name, which is the plugin's only name.
        distribution, version: the wheel it came with.
        target: `module` or `module:object`.
        state: "ok", "broken" or "disabled".
        reason: why it is broken or disabled.
        hooks: the hooks it implements.
        import_seconds: how long its import took.
    """

    name: str
    distribution: str
    version: str
    target: str
    state: Literal["ok", "broken", "disabled"] = "ok"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    import_seconds: float = 0.0
    requires_ftcore: str = field(default="", repr=False)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this plugin can serve."""
        return tuple(STAGE_OF_HOOK[hook] for hook in self.hooks if hook in STAGE_OF_HOOK)

    def __str__(self) -> str:
        return f"plugin '{self.name}' ({self.distribution} {self.version})"


class Plugins:
    """The plugins of this environment, and the calls to their hooks."""

    def __init__(self, records: Iterable[PluginRecord], manager: pluggy.PluginManager) -> None:
        self._records = {record.name: record for record in records}
        self._manager = manager

    @property
    def records(self) -> list[PluginRecord]:
        """Every plugin found, sorted by name."""
        return sorted(self._records.values(), key=lambda record: record.name)

    @property
    def manager(self) -> pluggy.PluginManager:
        """The pluggy manager underneath, for monitoring."""
        return self._manager

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
        others = ", ".join(self.serving(stage)) or "none"
        if record is None:
            raise PluginError(
                f'{where} = "{name}" names no installed plugin',
                why=f"plugins that serve the stage {stage} here: {others}",
                fix="Install the plugin's package, or choose one of these; `ftcore plugins` lists them",
            )
        if record.state != "ok":
            raise PluginError(
                f'{where} = "{name}" names a plugin that is {record.state}',
                why=f"{record}: {record.reason}",
                fix="Update or reinstall its package" if record.state == "broken" else f"Clear {DISABLE_VARIABLE}",
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
            PluginError: the plugin raised something else, or answered None; it is named.
        """
        record = self._records[plugin]
        try:
            answer = self._caller(hook, {plugin})(**arguments)
        except FtcoreError:
            raise
        except Exception as error:
            raise PluginError(
                f"{record} failed in {hook}", why=f"{type(error).__name__}: {error}", fix="Report it to its authors"
            ) from error
        return answer[0] if isinstance(answer, list) and len(answer) == 1 else answer

    def expect(self, kind: Any, hook: str, plugin: str, /, **arguments: Any) -> Any:
        """As `call`, but the answer must be of a type (or have the methods of a protocol).

        Raises:
            PluginError: the plugin answered something else; plugin, distribution and version are named.
        """
        answer = self.call(hook, plugin, **arguments)
        missing = _missing_methods(kind, answer)
        if answer is None or missing:
            got = "None" if answer is None else f"a {type(answer).__name__} without {', '.join(missing)}"
            raise PluginError(
                f"{self._records[plugin]} broke its contract",
                why=f"{hook} must return a {kind.__name__} and returned {got}",
                fix="Report it to its authors, or choose another plugin",
            )
        return answer

    def _caller(self, hook: str, chosen: set[str]) -> pluggy.HookCaller:
        caller = getattr(self._manager.hook, hook)
        left_out = {
            impl.plugin
            for impl in caller.get_hookimpls()
            if impl.plugin_name not in chosen and not (impl.wrapper or impl.hookwrapper)
        }
        return self._manager.subset_hook_caller(hook, remove_plugins=left_out)


def _missing_methods(kind: Any, answer: Any) -> list[str]:
    if not getattr(kind, "_is_protocol", False):
        return [] if isinstance(answer, kind) else [kind.__name__]
    wanted = {name for name in vars(kind) if callable(vars(kind)[name]) and not name.startswith("_")}
    if "__call__" in vars(kind):
        wanted.add("__call__")
    return sorted(name for name in wanted if not callable(getattr(answer, name, None)))


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
    records: dict[str, PluginRecord] = {}
    for entry_point, record in _entry_points():
        if record.name in records:
            other = records[record.name]
            reason = f"{other.distribution} and {record.distribution} both provide a plugin named '{record.name}'"
            if other.state == "ok":
                manager.unregister(name=record.name)
            records[record.name] = replace(other, state="broken", reason=reason)
        elif record.name in left_out:
            records[record.name] = replace(record, state="disabled", reason=f"named in {DISABLE_VARIABLE}")
        else:
            records[record.name] = _load(entry_point, record, manager)
    for name in sorted(left_out - records.keys()):
        log.warning("%s names '%s', which is no installed plugin", DISABLE_VARIABLE, name)
    return Plugins(records.values(), manager)


def _disabled_by_environment() -> list[str]:
    return [name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()]


def _entry_points() -> Iterator[tuple[EntryPoint, PluginRecord]]:
    seen: set[str] = set()
    for distribution in distributions():
        entry_points = [entry for entry in distribution.entry_points if entry.group == PROJECT]
        if not entry_points:
            continue
        name = distribution.metadata["Name"]
        if name in seen:  # an older copy further down sys.path
            continue
        seen.add(name)
        requires = _requires_ftcore(distribution)
        for entry in sorted(entry_points, key=lambda entry: entry.name):
            yield entry, PluginRecord(entry.name, name, distribution.version, entry.value, requires_ftcore=requires)


def _requires_ftcore(distribution: Distribution) -> str:
    for requirement in distribution.requires or ():
        if requirement.startswith(PROJECT):
            from packaging.requirements import Requirement  # only third-party plugins pay for this import

            parsed = Requirement(requirement)
            if parsed.name == PROJECT and not (parsed.marker and "extra" in str(parsed.marker)):
                return str(parsed.specifier)
    return ""


def _load(entry_point: EntryPoint, record: PluginRecord, manager: pluggy.PluginManager) -> PluginRecord:
    if reason := _unusable(record):
        return replace(record, state="broken", reason=reason)
    started = time.perf_counter()
    try:
        plugin = entry_point.load()
    except Exception as error:  # whatever a third party's module raises, the others must load
        return replace(record, state="broken", reason=f"its import failed: {type(error).__name__}: {error}")
    seconds = time.perf_counter() - started
    if reason := _contract_violation(plugin):
        return replace(record, state="broken", reason=reason, import_seconds=seconds)
    try:
        manager.register(plugin, name=record.name)
        manager.check_pending()
    except Exception as error:
        if manager.get_plugin(record.name) is not None:
            manager.unregister(name=record.name)
        return replace(record, state="broken", reason=str(error).strip().replace("\n", " "), import_seconds=seconds)
    hooks = tuple(name for name in _SPECIFICATIONS if name in _implementations(plugin))
    if not hooks:
        manager.unregister(name=record.name)
        return replace(record, state="broken", reason="it implements no hook", import_seconds=seconds)
    return replace(record, hooks=hooks, import_seconds=seconds)


def _unusable(record: PluginRecord) -> str:
    from ftcore import __version__

    if record.name in RESERVED:
        return f"the name '{record.name}' is reserved"
    if not record.name.replace("_", "").replace("-", "").isalnum():
        return f"the name '{record.name}' has other characters than letters, digits, '-' and '_'"
    if record.requires_ftcore:
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(record.requires_ftcore).contains(__version__, prereleases=True):
            return f"it needs ftcore{record.requires_ftcore} and this is {__version__}"
    return ""


_SPECIFICATIONS = {
    name: specification for name, specification in vars(hookspecs).items() if hasattr(specification, "ftcore_spec")
}


def _implementations(plugin: object) -> dict[str, Any]:
    found = {}
    for name in dir(plugin):
        try:
            value = getattr(plugin, name)
        except Exception:  # noqa: S112 - a property that raises is not a hook
            continue
        if hasattr(value, "ftcore_impl"):
            found[value.ftcore_impl.get("specname") or name] = value
    return found


def _contract_violation(plugin: object) -> str:
    """What pluggy would accept, and then do wrong without a word."""
    for name, function in _implementations(plugin).items():
        specification = _SPECIFICATIONS.get(name)
        if specification is None:
            return f"{name} is not a hook of ftcore"
        if function.ftcore_impl.get("specname"):
            return f"{function.__name__} uses specname=, which selection cannot see; name the function {name}"
        known = inspect.signature(specification).parameters
        for argument in inspect.signature(function).parameters.values():
            if argument.name in ("self", "cls"):
                continue
            if argument.name not in known:
                return f"{name} takes '{argument.name}', which is no argument of that hook ({', '.join(known)})"
            if argument.default is not inspect.Parameter.empty:
                return f"{name} gives '{argument.name}' a default, which would replace the real value"
    return ""
