"""Following generators: a hook that yields its answers, and a wrapper, work in pieces while others work in between."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from types import CodeType, GeneratorType
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from ftcore.trace import Call, Trace


class FollowedGenerator(Generator[Any, Any, Any]):
    """Passes everything on to a generator, and times it while it works; the call is over when the generator is."""

    def __init__(self, inner: GeneratorType[Any, Any, Any], call: Call, trace: Trace) -> None:
        self._inner, self._call, self._trace = inner, call, trace
        self._items = 0
        self._over = False

    @property
    def gi_code(self) -> CodeType:
        """Where the generator is written, which pluggy names when one yields too often."""
        return self._inner.gi_code

    def send(self, value: Any, /) -> Any:
        return self._go_on(partial(self._inner.send, value))

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any:
        return self._go_on(partial(self._inner.throw, error if value is None else value))

    def close(self) -> None:
        if self._over:
            return
        try:
            with self._trace.time(self._call):
                self._inner.close()
        finally:
            self._ended(self._outcome(None))

    def __del__(self) -> None:
        self.close()

    def _go_on(self, step: Callable[[], Any]) -> Any:
        try:
            with self._trace.time(self._call):
                item = step()
        except StopIteration as end:
            self._ended(self._outcome(end.value))
            raise
        except BaseException as error:
            self._ended(self._outcome_of_error(error))
            raise
        self._items += 1
        return item

    def _ended(self, outcome: str) -> None:
        if not self._over:
            self._over = True
            self._call.outcome = outcome
            self._trace.over(self._call)

    def _outcome(self, value: Any) -> str:
        return "answered" if self._items else "None"

    def _outcome_of_error(self, error: BaseException) -> str:
        return f"raised {type(error).__name__}"


class FollowedWrapper(FollowedGenerator):
    """The generator of a wrapper, which is given the answer of those inside, and gives its own."""

    _got: Any = None
    _thrown: BaseException | None = None

    def send(self, value: Any, /) -> Any:
        self._got = value
        return super().send(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any:
        self._thrown = error if value is None else value
        return super().throw(error, value, traceback)

    def _outcome(self, value: Any) -> str:
        if self._thrown is not None:
            return "changed"  # it made an answer out of an error
        # A wrapper of the old style changes the result that it is given, and returns nothing.
        return "wrapped" if value is self._got or isinstance(self._got, pluggy.Result) else "changed"

    def _outcome_of_error(self, error: BaseException) -> str:
        return "wrapped" if error is self._thrown else super()._outcome_of_error(error)
