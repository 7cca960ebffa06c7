"""Finding plugins among the installed packages, and saying what is wrong with a broken one.

pluggy alone would abort on the first bad import, keep a rejected plugin registered, take a default argument for the
real value, and skip a duplicate name in silence. Here each plugin is looked at on its own.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from ftcore import hookspecs
from ftcore.hookspecs import PROJECT
from ftcore.plugins.deprecation import noticed
from ftcore.plugins.importers import SLOW, Cost, on_behalf_of
from ftcore.text import duration

if TYPE_CHECKING:
    from ftcore.settings.base import Section

log = logging.getLogger(__name__)

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

RESERVED = frozenset({"auto", "none", "null", "fine_tuner", "stages", "run", "audit", "extends"})
"""Names that mean something else in a configuration."""

DISABLE_VARIABLE = "FTCORE_DISABLE"
"""An environment variable with the names of plugins to leave out, separated by commas."""

SPECIFICATIONS = {
    name: specification for name, specification in vars(hookspecs).items() if hasattr(specification, "ftcore_spec")
}
"""The hooks, in the order of a run."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
        wraps: the hooks that it wraps around other plugins' implementations.
        settings: the model of its own section, if it has one.
        import_seconds: how long its import took; what it shares with others is charged to whoever comes first.
        settings_seconds: how long its `ftcore_settings` took.
        heavy: the heavy libraries that these two imported.
        outdated: what it uses of ftcore that goes away, each as `file:line: what`.
    """

    name: str
    distribution: str
    version: str
    target: str
    state: Literal["ok", "broken", "disabled"] = "ok"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    wraps: tuple[str, ...] = ()
    settings: type[Section] | None = field(default=None, repr=False)
    import_seconds: float = 0.0
    settings_seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    requires_ftcore: str = field(default="", repr=False)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this plugin can serve."""
        return tuple(STAGE_OF_HOOK[hook] for hook in self.hooks if hook in STAGE_OF_HOOK)

    def slow(self, limit: float = SLOW) -> str:
        """What to do about a plugin that holds up every command; an empty text where it does not.

        Args:
            limit: the seconds that its import and its `ftcore_settings` may take.
        """
        seconds = self.import_seconds + self.settings_seconds
        if seconds <= limit:
            return ""
        what = "import" if self.import_seconds > self.settings_seconds else "answer ftcore_settings"
        heavy = f" ({', '.join(self.heavy)} among it)" if self.heavy else ""
        return (
            f"{self} takes {duration(seconds)} to {what}{heavy}, and every command that reads a configuration waits for it. "
            "Import what takes long inside the functions that need it"
        )

    @property
    def remedy(self) -> str:
        """What makes it usable again; an empty text where it is."""
        remedies = {
            "broken": "Update or reinstall its package",
            "disabled": f"Take {self.name} out of {DISABLE_VARIABLE}",
        }
        return remedies.get(self.state, "")

    def broken(self, reason: str) -> PluginRecord:
        """The record of a plugin that cannot be used."""
        return replace(self, state="broken", reason=" ".join(reason.split()), hooks=(), wraps=(), settings=None)

    def __str__(self) -> str:
        return f"plugin '{self.name}' ({self.distribution} {self.version})"


def entry_points() -> Iterator[tuple[EntryPoint, PluginRecord]]:
    """Every entry point of the group `ftcore`, by distribution and name, nothing of it imported."""
    found: dict[str, tuple[Distribution, list[EntryPoint]]] = {}
    for distribution in distributions():
        try:
            ours = [entry for entry in distribution.entry_points if entry.group == PROJECT]
        except Exception as error:
            log.warning("the entry points of an installed package cannot be read: %s", error)
            continue
        if ours:
            name = distribution.metadata["Name"] or "unknown"
            found.setdefault(name, (distribution, ours))  # a second one is an older copy further down sys.path
    for name, (distribution, ours) in sorted(found.items()):
        requires = "" if name == PROJECT else _requires_ftcore(distribution)
        for entry in sorted(ours, key=lambda entry: entry.name):
            version = distribution.version or "?"
            yield entry, PluginRecord(entry.name, name, version, entry.value, requires_ftcore=requires)


def _requires_ftcore(distribution: Distribution) -> str:
    for requirement in distribution.requires or ():
        if requirement.lower().startswith(PROJECT):
            from packaging.requirements import InvalidRequirement, Requirement  # only third parties pay for this import

            try:
                parsed = Requirement(requirement)
            except InvalidRequirement:
                continue
            if parsed.name.lower() == PROJECT and (parsed.marker is None or parsed.marker.evaluate({"extra": ""})):
                return str(parsed.specifier)
    return ""


def load(entry_point: EntryPoint, record: PluginRecord, manager: pluggy.PluginManager) -> PluginRecord:
    """Import and register one plugin; a broken one is recorded as such and not registered."""
    if reason := _unusable(record):
        return record.broken(reason)
    outdated: list[str] = []
    cost = Cost()
    failure = ""
    try:
        with on_behalf_of(record.name), noticed(outdated), cost:
            plugin = entry_point.load()
    except (Exception, SystemExit) as error:  # whatever a third party's module raises, the others must load
        failure = f"its import failed: {type(error).__name__}: {error}"
    record = replace(record, import_seconds=cost.seconds, heavy=cost.heavy)
    if failure:
        return record.broken(failure)
    if other := manager.get_name(plugin):
        return record.broken(f"{record.target} is the plugin '{other}' already")
    if reason := contract_violation(plugin):
        return record.broken(reason)
    try:
        with noticed(outdated):
            manager.register(plugin, name=record.name)
        record = replace(_describe(plugin, record), outdated=tuple(outdated))
    except (Exception, SystemExit) as error:
        record = record.broken(str(error))
    if record.state == "broken" and manager.has_plugin(record.name):
        manager.unregister(name=record.name)
    return record


def _describe(plugin: object, record: PluginRecord) -> PluginRecord:
    found = implementations(plugin)
    wraps = {name for name, hook in found.items() if hook.ftcore_impl["wrapper"] or hook.ftcore_impl["hookwrapper"]}
    if not found:
        return record.broken(_hookless(plugin))
    record = replace(
        record,
        hooks=tuple(name for name in SPECIFICATIONS if name in found.keys() - wraps),
        wraps=tuple(name for name in SPECIFICATIONS if name in wraps),
    )
    if "ftcore_settings" not in record.hooks:
        return record
    cost = Cost()
    try:
        with cost:
            model = found["ftcore_settings"]()
    except (Exception, SystemExit) as error:
        return record.broken(f"its ftcore_settings failed: {type(error).__name__}: {error}")
    record = replace(record, settings_seconds=cost.seconds, heavy=record.heavy + cost.heavy)
    reason = _unusable_settings(model)
    return record.broken(reason) if reason else replace(record, settings=model)


def _hookless(plugin: object) -> str:
    unmarked = [name for name in SPECIFICATIONS if inspect.isroutine(getattr(plugin, name, None))]
    if not unmarked:
        return "it implements no hook"
    verb = "is" if len(unmarked) == 1 else "are"
    return f"it implements no hook: {', '.join(unmarked)} {verb} not marked with @ftcore.hookimpl"


def _unusable_settings(model: Any) -> str:
    from ftcore.settings.base import Section

    if not (isinstance(model, type) and issubclass(model, Section)):
        got = model.__name__ if isinstance(model, type) else f"a {type(model).__name__}"
        return f"its ftcore_settings must return a class derived from ftcore.settings.Section and returned {got}"
    try:
        model.model_json_schema()
    except Exception as error:
        return f"the fields of its settings cannot be described: {type(error).__name__}: {error}"
    return ""


def _unusable(record: PluginRecord) -> str:
    from ftcore import __version__

    if record.name in RESERVED:
        return f"the name '{record.name}' is reserved: it means something else in a configuration; choose another"
    if not _NAME.fullmatch(record.name):
        return f"the name '{record.name}' has other characters than letters, digits, '-' and '_'"
    if record.requires_ftcore:
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(record.requires_ftcore).contains(__version__, prereleases=True):
            return f"it needs ftcore{record.requires_ftcore} and this is {__version__}"
    return ""


def implementations(plugin: object) -> dict[str, Any]:
    """The hook implementations of a module or object, by hook."""
    found = {}
    for name in dir(plugin):
        try:
            value = getattr(plugin, name)
            options = getattr(value, "ftcore_impl", None)
        except Exception:  # noqa: S112 - a property that raises is not a hook
            continue
        if inspect.isroutine(value) and isinstance(options, dict):
            found[options.get("specname") or name] = value
    return found


def contract_violation(plugin: object) -> str:
    """What pluggy would accept, and then do wrong without a word; an empty text where all is well."""
    if getattr(plugin, "__hash__", None) is None:
        return (
            f"its object, a {type(plugin).__name__}, cannot be hashed; make its class a frozen dataclass, or eq=False"
        )
    for name, function in implementations(plugin).items():
        specification = SPECIFICATIONS.get(name)
        if specification is None and function.ftcore_impl.get("optionalhook"):
            continue  # a hook of a newer ftcore, which the plugin can do without
        if specification is None:
            close = get_close_matches(name, SPECIFICATIONS, n=1)
            return f"{name} is not a hook of ftcore" + (f". Did you mean {close[0]}?" if close else "")
        if function.ftcore_impl.get("specname"):
            return f"{function.__name__} uses specname=, which selection cannot see; name the function {name}"
        if inspect.iscoroutinefunction(function):
            return f"{name} is async, and hooks are called without an event loop"
        known = inspect.signature(specification).parameters
        for argument in inspect.signature(function).parameters.values():
            if reason := _wrong_argument(argument, known):
                return f"{name} {reason}"
    return ""


def _wrong_argument(argument: inspect.Parameter, known: Any) -> str:
    if argument.name in ("self", "cls"):
        return f"takes '{argument.name}': the entry point names a class; name an instance of it"
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        return f"takes '*{argument.name}', which would stay empty; name the arguments ({', '.join(known) or 'none'})"
    if argument.name not in known:
        return f"takes '{argument.name}', which is no argument of that hook ({', '.join(known) or 'it has none'})"
    if argument.default is not inspect.Parameter.empty:
        return f"gives '{argument.name}' a default, which would replace the real value"
    if argument.kind is argument.KEYWORD_ONLY:
        return f"takes '{argument.name}' by keyword only, and hooks are called by position"
    return ""
