"""Who answers each hook of a run, in which order, and how long it takes: for `ftcore plugins why`.

What costs nothing is asked, and timed. What would begin a run is only said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcore.check import deciding, read
from ftcore.config import Config
from ftcore.contracts import Bid, Declined
from ftcore.plugins import Plugins
from ftcore.plugins.discovery import SPECIFICATIONS, STAGE_OF_HOOK
from ftcore.plugins.selection import Choice, choices
from ftcore.trace import Trace

_ELSEWHERE = frozenset({"ftcore_trace_loss", "ftcore_answering", "ftcore_register_commands"})
"""Hooks of other commands than `ftcore run`."""

Turn = tuple[str, str, float | None]
"""A plugin, what it answers or why it is asked, and the seconds that it took if it was asked now."""


@dataclass(frozen=True)
class Answer:
    """A plugin's part in a hook.

    Attributes:
        hook: its name.
        order: when its turn is, from 1; 0 where it is not asked.
        plugin: its name.
        text: what it answers, or why it is asked or not.
        seconds: how long it took; None where it was not asked now.
    """

    hook: str
    order: int
    plugin: str
    text: str
    seconds: float | None = None


def ask(path: Path, plugins: Plugins, overrides: Sequence[str]) -> tuple[list[Choice], list[Answer]]:
    """Read a configuration, and ask its plugins what can be asked without a run.

    Returns:
        Who serves each stage, and every plugin's part in every hook of the run, hook by hook.

    Raises:
        FtcoreError: the configuration cannot be read, or names a plugin that cannot serve.
    """
    trace = Trace(plugins)
    try:
        config = read(path, plugins, overrides)
        selected, offers = _chosen(config, plugins)
        problems = _problems(config, plugins)
    finally:
        trace.close()
    seconds: dict[tuple[str, str], float] = {}
    said: dict[tuple[str, str], str] = {}
    for call in trace.calls:
        if not call.method:
            seconds[call.hook, call.plugin] = seconds.get((call.hook, call.plugin), 0.0) + call.seconds
            said[call.hook, call.plugin] = call.outcome
    return selected, list(_Run(config, plugins, selected, offers, problems, seconds, said).answers())


def _chosen(config: Config, plugins: Plugins) -> tuple[list[Choice], dict[str, Any]]:
    """The choices, and what each plugin answered when it was asked for an offer to load the model."""
    offers: dict[str, Any] = {}

    def note(outcome: Any, hook: str, implementations: Sequence[Any], arguments: object) -> None:
        if hook == "ftcore_bid" and outcome.exception is None:
            (asked,) = [impl.plugin_name for impl in implementations if not (impl.wrapper or impl.hookwrapper)]
            offers[asked] = outcome.get_result()

    end = plugins.manager.add_hookcall_monitoring(lambda *_: None, note)
    try:
        return choices(config, plugins), offers
    finally:
        end()


def _problems(config: Config, plugins: Plugins) -> dict[str, int | None]:
    """How many problems each plugin finds; None where it fails to say."""
    found: dict[str, int | None] = {}
    for name in plugins.implementing("ftcore_check"):
        if name not in config.incomplete:
            try:
                answer = plugins.call("ftcore_check", name, config=config, settings=config.section(name))
                found[name] = len(list(answer or ()))
            except Exception:  # whatever a generator raises
                found[name] = None
    return found


@dataclass(frozen=True)
class _Run:
    """A configuration, and what its plugins have answered.

    Attributes:
        offers: to load the model, by plugin.
        problems: how many each plugin found.
        seconds, said: by hook and plugin, how long it took and how it ended.
    """

    config: Config
    plugins: Plugins
    selected: Sequence[Choice]
    offers: Mapping[str, Any]
    problems: Mapping[str, int | None]
    seconds: Mapping[tuple[str, str], float]
    said: Mapping[tuple[str, str], str]

    def answers(self) -> Iterator[Answer]:
        for hook in SPECIFICATIONS:
            if hook in _ELSEWHERE:
                continue
            turns = [*self._wrappers(hook), *self._turns(hook)]
            for order, (name, text, seconds) in enumerate(turns, 1):
                yield Answer(hook, order, name, text, seconds)
            for name in self.plugins.implementing(hook):
                if name not in {turn[0] for turn in turns}:
                    yield Answer(hook, 0, name, self._why_not(hook, name))

    def _wrappers(self, hook: str) -> Iterator[Turn]:
        implementations = getattr(self.plugins.manager.hook, hook).get_hookimpls()
        for impl in reversed(implementations):
            if impl.wrapper or impl.hookwrapper:
                yield self._now(hook, impl.plugin_name, "wraps what the others do")

    def _turns(self, hook: str) -> Iterator[Turn]:
        match hook:
            case "ftcore_settings":
                for name in self.plugins.sections:
                    yield self._now(hook, name, f"has the section [{name}]")
            case "ftcore_base_config" | "ftcore_policy":
                yield from self._when_read(hook)
            case "ftcore_check":
                for name, count in self.problems.items():
                    yield self._now(hook, name, _told(count))
            case "ftcore_bid":
                yield from self._offers()
            case "ftcore_name_run":
                for name in self.plugins.implementing(hook):
                    yield name, "will be asked, until one gives a name", None
            case "ftcore_preflight":
                for name in self.plugins.implementing(hook):
                    if name in {choice.plugin for choice in self.selected} | deciding(self.config, self.plugins):
                        yield name, "will be asked when the run has a name", None
            case _ if hook in STAGE_OF_HOOK:
                for choice in self.selected:
                    if choice.plugin and choice.stage == STAGE_OF_HOOK[hook]:
                        yield choice.plugin, choice.why, None
            case _:
                for name in self.plugins.implementing(hook):
                    if name not in self.config.incomplete:
                        yield name, "will be told", None

    def _when_read(self, hook: str) -> Iterator[Turn]:
        """Who was called when the configuration was read."""
        for name in self.plugins.implementing(hook):
            if outcome := self.said.get((hook, name)):
                yield self._now(hook, name, "has nothing to say" if outcome == "None" else "answers")

    def _offers(self) -> Iterator[Turn]:
        chosen = [choice.plugin for choice in self.selected if choice.stage == "loader"]
        for name, answer in self.offers.items():
            yield self._now("ftcore_bid", name, f"{_offer(answer)}{': chosen' if name in chosen else ''}")
        if self.config.stages.formatter == "auto":
            for name in self.plugins.implementing("ftcore_bid"):
                if name in self.plugins.serving("formatter"):
                    yield name, "will be asked for a formatter when the columns are known", None

    def _now(self, hook: str, name: str, text: str) -> Turn:
        return name, text, self.seconds.get((hook, name))

    def _why_not(self, hook: str, name: str) -> str:
        if name in self.config.incomplete:
            return f"[{name}] is not complete"
        if hook == "ftcore_make_formatter" and self.config.stages.formatter == "auto":
            return "not chosen yet"
        return "not chosen" if hook in STAGE_OF_HOOK else "has no part in this run"


def _offer(answer: Any) -> str:
    match answer:
        case Bid():
            return f"offers to load the model, rank {answer.rank}"
        case Declined():
            return f"stands back: {answer.reason}"
    return "makes no offer to load the model"


def _told(count: int | None) -> str:
    if count is None:
        return "fails: ftcore check says how"
    return f"has something to say: ftcore check shows it ({count})" if count else "finds no problem"
