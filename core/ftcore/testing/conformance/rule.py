"""What a rule is, and how one is held against a plugin.

A rule is a function that takes the `Subject` and yields what it finds wrong, one text for each. Its docstring says what
a plugin that keeps it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from ftcore.errors import FtcoreError
from ftcore.testing.conformance.report import Outcome

if TYPE_CHECKING:
    from ftcore.testing.conformance.subject import Subject

EVERY = "plugin"
"""The kind of the rules for plugins of all kinds."""

KINDS = ("launcher", "namer", "model", "data", "formatter", "loader", "trainer", "reporter", "saver")
"""What a plugin can serve, in the order of the rules."""

TRAIN = frozenset({"torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors", "tokenizers", "numpy", "pyarrow"})  # fmt: skip
"""What `ftcore[train]` installs: without it, rules that need it cannot be tried."""

Check = Callable[["Subject"], Iterable[str]]


class NotTried(Exception):
    """The rule cannot be tried here; the message says why."""


class Broken(Exception):
    """The plugin cannot be tried because of what it is or lacks; the message says what was found.

    Args:
        what: what was found.
        fix: what to do; empty where the rule's own remedy is meant.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: its name, which begins with its kind.
        kind: which plugins it is for; `EVERY`, or one of `KINDS`.
        hooks: it is for plugins with one of these; for all of its kind where there are none.
        what: what a plugin that keeps it does.
        why: what goes wrong where it is broken.
        fix: what to do then.
        check: yields what is wrong.
    """

    id: str
    kind: str
    hooks: tuple[str, ...]
    what: str
    why: str
    fix: str
    check: Check


def rule(id: str, *, why: str, fix: str, hooks: tuple[str, ...] = ()) -> Callable[[Check], Rule]:
    """Make a function a rule; the first word of the id is the kind, the docstring is what it demands."""

    def make(check: Check) -> Rule:
        return Rule(id, id.partition("-")[0], hooks, " ".join((check.__doc__ or "").split()), why, fix, check)

    return make


def hold(rule: Rule, subject: Subject) -> Outcome:
    """Hold a rule against a plugin, in the surroundings that `subject` makes."""
    try:
        with subject.surroundings():
            found = tuple(_line(text) for text in rule.check(subject))
    except NotTried as reason:
        return Outcome(rule.id, "skipped", (_line(str(reason)),))
    except Broken as reason:
        return Outcome(rule.id, "failed", (_line(str(reason)),), rule.why, reason.fix or rule.fix)
    except (Exception, SystemExit) as error:  # whatever a plugin raises is a finding about it
        if missing := missing_library(error):
            return Outcome(rule.id, "skipped", (f"{missing} is not installed; type: pip install 'ftcore[train]'",))
        found = (raised(error),)
    return Outcome(rule.id, "failed", found, rule.why, rule.fix) if found else Outcome(rule.id, "passed")


def raised(error: BaseException) -> str:
    """What was raised, and where in a plugin's code."""
    text = _line(f"{type(error).__name__}: {error}")
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for each in _chain(error)
        for frame in extract_tb(each.__traceback__)
        if "/ftcore/" not in frame.filename and "pluggy" not in frame.filename and frame.filename[0] != "<"
    ]
    return f"it raised {text}" + (f" ({places[-1]})" if places else "")


def missing_library(error: BaseException) -> str:
    """The library of `ftcore[train]` whose absence an error comes from; else empty."""
    for each in _chain(error):
        if isinstance(each, ModuleNotFoundError) and each.name and each.name.partition(".")[0] in TRAIN:
            return each.name.partition(".")[0]
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def refusal(action: Callable[[], object], what: str) -> Iterator[str]:
    """What is wrong with how an action ends that must raise an `FtcoreError`."""
    try:
        action()
    except FtcoreError as error:
        if not error.what:
            yield f"{what}: the {type(error).__name__} does not say what is wrong"
    except (Exception, SystemExit) as error:
        if missing_library(error):
            raise
        yield f"{what}: {raised(error)}, which is no FtcoreError"
    else:
        yield f"{what}: nothing was raised"


def _line(text: str) -> str:
    return " ".join(text.split())
