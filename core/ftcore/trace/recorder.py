"""Who was called in a run, and how long each took: never with what, nor what came back, since either may be a secret.

Followed are the hooks, by pluggy's own monitoring, and the methods of the objects that hooks made, where ftcore calls them:
a hook that makes a loader returns at once, and the loader works. What a plugin does in other processes, as a formatter
does, is part of the call that waits for it. Nothing is in the way of a call while nobody follows it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from inspect import isgenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.hookspecs import PROJECT
from ftcore.secrets import masked
from ftcore.text import duration
from ftcore.trace.call import Call
from ftcore.trace.generators import FollowedGenerator, FollowedWrapper

if TYPE_CHECKING:
    import pluggy

    from ftcore.plugins import Plugins
    from ftcore.reporting.records import Lines

FILE = "trace.jsonl"
"""In the run directory: a line for each call, as `Call.facts` has it."""

IMPORT = "import"
"""Stands for a hook in what is told of plugins' imports."""

SETTINGS = "ftcore_settings"
"""Asked of every plugin when it is found."""

_FOLLOWED = frozenset({"Loader", "Trainer", "Reporter"})
"""The objects whose methods ftcore calls. A formatter is called by the trainer, in other processes."""

_OFTEN = frozenset({"Reporter.log", "Reporter.log_many"})
"""Called with every record: they are told of in one line, at the end."""


class Trace:
    """Follows the calls to plugins from now on.

    Args:
        plugins: whose calls; their `trace` is this one.
        tell: is given a line for each call when it is over, in whatever thread that is.
    """

    def __init__(self, plugins: Plugins, tell: Callable[[str], None] = lambda line: None) -> None:
        self.calls: list[Call] = []
        """Every call that is over, but for those that are made with every record."""
        self.often: dict[tuple[str, str], Call] = {}
        """Those in one, by method and plugin."""
        self.began = time.perf_counter()
        """When the plugins' imports began, had they come right before."""
        self._plugins, self._tell = plugins, tell
        self._numbers = itertools.count(1)
        self._here = _Here()
        self._lock = threading.Lock()
        self._functions: dict[pluggy.HookImpl, Callable[..., Any]] = {}
        self._lines: Lines | None = None
        self._discovered()
        plugins.trace = self
        self._end = plugins.manager.add_hookcall_monitoring(self._before, self._after)

    def write_to(self, folder: Path) -> None:
        """Write the calls so far, and those to come, into a run directory; a file that is there goes on."""
        from ftcore.reporting.records import Lines

        with self._lock:
            try:
                self._lines = Lines(folder / FILE)
            except OSError as error:
                self._unwritable(error)
            for call in self.calls:
                self._write(call)

    def close(self) -> None:
        """Follow no more calls, and tell of those that were only counted."""
        self._end()
        for implementation, function in self._functions.items():
            _replace(implementation, function)
        self._plugins.trace = None
        with self._lock:
            for call in self.often.values():
                self._write(call)
                self._tell(str(call))
            if self._lines is not None:
                self._lines.close()

    def followed(self, made: Any, kind: Any, hook: str, plugin: str) -> Any:
        """An object that a hook made, or something in its place that times its methods."""
        return Followed(made, kind.__name__, hook, plugin, self) if kind.__name__ in _FOLLOWED else made

    def call(self, hook: str, plugin: str, *, method: str = "", number: int = 0, order: int = 1) -> Call:
        """A call that begins; without a number it is the next one."""
        record = self._plugins.get(plugin)
        distribution, version = (record.distribution, record.version) if record else (PROJECT, "")
        return Call(hook, plugin, distribution, version, method, number or next(self._numbers), order)

    @contextmanager
    def time(self, call: Call) -> Iterator[None]:
        """The block is a part of a call, which may have several."""
        open_calls = self._here.calls
        open_calls.append(call)
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            open_calls.pop()
            call.seconds += spent
            if open_calls:
                open_calls[-1].inside += spent

    def timed(self, call: Call, function: Callable[[], Any]) -> Any:
        """The whole of a call: what the function does."""
        try:
            with self.time(call):
                answer = function()
        except BaseException as error:
            call.raised(error)
            self.over(call)
            raise
        if not isgenerator(answer):  # which works when it is asked for its items
            call.outcome = "None" if answer is None else "answered"
            self.over(call)
        return answer

    def over(self, call: Call, *, told: bool = True) -> None:
        """A call has its outcome; `told` says whether a line of its own tells of it."""
        with self._lock:
            if call.what in _OFTEN and not call.outcome.startswith("raised"):
                known = self.often.setdefault((call.what, call.plugin), call)
                if known is not call:
                    known.calls += 1
                    known.seconds += call.seconds
                    known.inside += call.inside
                return
            self.calls.append(call)
            self._write(call)
            if told:
                self._tell(str(call))

    def _write(self, call: Call) -> None:
        if self._lines is not None:
            try:
                self._lines.add(masked(call.facts()))
            except OSError as error:
                self._unwritable(error)

    def _unwritable(self, error: OSError) -> None:
        # Whoever looks for the time that plugins take does not want the run to end for it.
        self._lines = None
        self._tell(f"{FILE} cannot be written ({error.strerror or error}): calls are only told of here")

    def _discovered(self) -> None:
        """What was done to find the plugins, which is over: told of in a line for all that went well."""
        took: dict[str, list[float]] = {}
        for record in self._plugins.records:
            did = {IMPORT: record.import_seconds, SETTINGS: record.settings_seconds}
            for hook, seconds in did.items():
                if seconds:
                    call = self.call(hook, record.name)
                    call.seconds = seconds
                    call.outcome = "broken" if record.state == "broken" else "answered"
                    self.began -= seconds
                    self.over(call, told=call.outcome == "broken")
                    took.setdefault(hook, []).append(seconds)
        for hook, each in took.items():
            self._tell(f"{duration(sum(each)):>9}  {hook:<22} {len(each)} plugins")

    def _before(self, hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, object]) -> None:
        with self._lock:
            for implementation in implementations:
                if implementation not in self._functions:
                    self._functions[implementation] = implementation.function
                    _replace(implementation, self._followed(hook, implementation))
        self._here.hooks.append(_HookCall(next(self._numbers)))

    def _after(self, outcome: object, hook: str, implementations: object, arguments: object) -> None:
        self._here.hooks.pop()

    def _followed(self, hook: str, implementation: pluggy.HookImpl) -> Callable[..., Any]:
        function, plugin = implementation.function, implementation.plugin_name
        generator = FollowedWrapper if implementation.wrapper or implementation.hookwrapper else FollowedGenerator

        @wraps(function)
        def followed(*args: Any, **kwargs: Any) -> Any:
            if not self._here.hooks:  # this trace has ended while another thread was about to call
                return function(*args, **kwargs)
            asked = self._here.hooks[-1]
            asked.order += 1
            call = self.call(hook, plugin, number=asked.number, order=asked.order)
            answer = self.timed(call, lambda: function(*args, **kwargs))
            return generator(answer, call, self) if isgenerator(answer) else answer

        return followed


class Followed:
    """Passes everything on to an object that a hook made, and times its methods."""

    def __init__(self, inner: object, kind: str, hook: str, plugin: str, trace: Trace) -> None:
        self._inner, self._kind, self._hook, self._plugin, self._trace = inner, kind, hook, plugin, trace

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name.startswith("_") or not callable(value):
            return value

        @wraps(value)
        def followed(*args: Any, **kwargs: Any) -> Any:
            call = self._trace.call(self._hook, self._plugin, method=f"{self._kind}.{name}")
            return self._trace.timed(call, lambda: value(*args, **kwargs))

        return followed


def own_work(trace: Trace | None, hook: str, what: str) -> AbstractContextManager[None]:
    """What ftcore itself does inside a plugin's hook, which is not the plugin's time; nobody may be following."""
    return nullcontext() if trace is None else _own_work(trace, hook, what)


@contextmanager
def _own_work(trace: Trace, hook: str, what: str) -> Iterator[None]:
    call = trace.call(hook, "", method=what)
    try:
        with trace.time(call):
            yield
        call.outcome = "answered"
    except BaseException as error:
        call.raised(error)
        raise
    finally:
        trace.over(call)


@dataclass
class _HookCall:
    """A hook that is being called, and how many implementations it has reached."""

    number: int
    order: int = 0


class _Here(threading.local):
    """What this thread is in the middle of, the innermost last."""

    def __init__(self) -> None:
        self.hooks: list[_HookCall] = []
        self.calls: list[Call] = []


def _replace(implementation: pluggy.HookImpl, function: Callable[..., Any]) -> None:
    """Let pluggy call another function, with the arguments that the first one takes."""
    object.__setattr__(implementation, "function", function)
