"""Rules for model sources: an id becomes something to load, or a clear error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ftcore import locators
from ftcore.testing.conformance.rule import NotTried, refusal, rule
from ftcore.testing.conformance.subject import Subject, where


@rule(
    "model-resolves",
    why="the loader gets what it returns",
    fix="return the path of a folder or file that is there, or the id of a model on the Hub, as a text",
)
def resolves(subject: Subject) -> Iterator[str]:
    """An id of its own becomes a text: a folder, a file, or a Hub id; the same one each time."""
    if subject.setup.model is None:
        raise NotTried(f"no id of a model was given, as `model`, in {where(subject.name)}")
    first, second = (_resolve(subject, subject.setup.model) for _ in range(2))
    if not isinstance(first, str) or not first:
        yield f"it returned {first!r}, not a text"
    elif first != second:
        yield f"it returned {first!r}, and then {second!r}"
    elif Path(first).is_absolute() and not Path(first).exists():
        yield f"it returned {first!r}, and there is no such file or folder"


@rule(
    "model-refuses",
    why="a mistyped id is the user's mistake: one line, and no traceback",
    fix="raise ModelError with the ids that there are",
)
def refuses(subject: Subject) -> Iterator[str]:
    """An id of a model that is not there raises an FtcoreError."""
    for path in ("ftcore-no-such-model", "../ftcore no such model", "ftcore-no-such-model?ftcore_option=1"):
        text = f"{subject.name}:{path}"
        yield from refusal(lambda text=text: _resolve(subject, text), f'"{text}"')  # type: ignore[misc]


def _resolve(subject: Subject, text: str) -> object:
    assert subject.record
    config = subject.config("model")
    answer: object = subject.call(
        "ftcore_resolve_model", locator=locators.parse(text), settings=config.section(subject.name)
    )
    return answer
