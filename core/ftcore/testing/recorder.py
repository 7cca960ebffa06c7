"""Records which hooks ftcore calls, of which plugin, in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pluggy

from ftcore.plugins import registry


@dataclass
class HookCall:
    """One call of a hook.

    Its repr has the arguments' names only: values may be secrets, and a failing test prints the repr.

    Attributes:
        hook: e.g. "ftcore_save".
        plugin: the plugin that was asked; "" where only wrappers were there.
        arguments: what it was called with, by name.
        answer: what it returned; None where it raised.
        error: what it raised, if anything.
    """

    hook: str
    plugin: str
    arguments: Mapping[str, Any] = field(repr=False)
    answer: Any = field(default=None, repr=False)
    error: BaseException | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        raised = f", raised {type(self.error).__name__}" if self.error is not None else ""
        return f"HookCall({self.hook} of {self.plugin or 'nobody'}, with {', '.join(self.arguments)}{raised})"


class HookRecorder:
    """The calls of all hooks of all plugins, in their order, whatever thread they were made in.

    Attributes:
        calls: every call so far.
    """

    def __init__(self) -> None:
        self.calls: list[HookCall] = []
        self._open = threading.local()

    def __repr__(self) -> str:
        return f"HookRecorder({len(self.calls)} calls)"

    def names(self, plugin: str | None = None) -> list[str]:
        """The hooks in the order of their calls; with `plugin`, only the calls of that one."""
        return [call.hook for call in self.calls if plugin in (None, call.plugin)]

    def of(self, hook: str, plugin: str | None = None) -> list[HookCall]:
        """The calls of one hook; with `plugin`, only those of that one."""
        return [call for call in self.calls if call.hook == hook and plugin in (None, call.plugin)]

    def clear(self) -> None:
        """Forget the calls so far."""
        self.calls.clear()

    def watch(self, manager: pluggy.PluginManager) -> Callable[[], None]:
        """Record what is called through a manager; returns what ends that."""
        return manager.add_hookcall_monitoring(self._before, self._after)

    @contextmanager
    def watching(self) -> Iterator[HookRecorder]:
        """Record what is called through every manager that is made inside the block."""
        make = registry.new_manager

        def watched() -> pluggy.PluginManager:
            manager = make()
            self.watch(manager)
            return manager

        with mock.patch.object(registry, "new_manager", watched):
            yield self

    def _before(self, hook: str, implementations: Sequence[Any], arguments: Mapping[str, Any]) -> None:
        asked = [impl.plugin_name for impl in implementations if not (impl.wrapper or impl.hookwrapper)]
        call = HookCall(hook, asked[-1] if asked else "", dict(arguments))
        self.calls.append(call)
        self._stack().append(call)

    def _after(
        self, outcome: pluggy.Result[Any], hook: str, implementations: Sequence[Any], arguments: Mapping[str, Any]
    ) -> None:
        call = self._stack().pop()
        call.error = outcome.exception
        call.answer = None if outcome.exception is not None else outcome.get_result()

    def _stack(self) -> list[HookCall]:
        """The calls of this thread that have not returned."""
        if not hasattr(self._open, "calls"):
            self._open.calls = []
        calls: list[HookCall] = self._open.calls
        return calls
