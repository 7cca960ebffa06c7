"""What stands behind the question mark of a dataset's id, and which split is meant where none is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from ftcore.contracts import DataRequest
from ftcore.errors import ConfigError, DataError

VALIDATION_SPLITS = ("validation", "valid", "val", "dev", "eval", "test")
"""The splits that serve as validation data where none is named, the best first."""


@dataclass(frozen=True)
class Options:
    """The options of one dataset id.

    Attributes:
        values: the options that are texts, such as `split` or `revision`.
        rows: keep only so many rows from the front; None keeps all.
    """

    values: dict[str, str] = field(default_factory=dict)
    rows: int | None = None

    def get(self, name: str) -> str | None:
        """An option's text, or None where it is not given."""
        return self.values.get(name)

    def flag(self, name: str) -> bool:
        """Whether a yes-or-no option is on.

        Raises:
            ConfigError: it is neither true nor false.
        """
        text = self.values.get(name, "false").lower()
        if text not in ("true", "false"):
            raise ConfigError(f'the option {name}="{_short(text)}" is neither true nor false', fix=f"Write {name}=true")
        return text == "true"


def read(request: DataRequest, known: Sequence[str]) -> Options:
    """The options of a request.

    Args:
        known: the options that this source understands.

    Raises:
        ConfigError: an option is unknown, is empty, or `rows` is no positive number.
    """
    options = dict(request.locator.options)
    for name, value in options.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise ConfigError(
                f'the id "{_short(request.locator.text)}" has the option "{_short(name)}", which is unknown',
                why=f"known here: {', '.join(known)}",
                fix=f"Did you mean {close[0]}?" if close else "Remove it",
            )
        if not value:
            raise ConfigError(
                f'the id "{_short(request.locator.text)}" has the option "{name}" without a value',
                fix=f"Write {name}=… or remove it",
            )
    return Options(options, _rows(options.pop("rows", None), request))


def _rows(text: str | None, request: DataRequest) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise ConfigError(
            f'the id "{_short(request.locator.text)}" asks for rows={_short(text)}',
            why="rows is how many rows to keep from the front, at least 1",
            fix="Write it as rows=1000",
        )
    return int(text)


def choose_split(splits: Sequence[str], asked: str | None, request: DataRequest) -> str:
    """The split that is meant: the one asked for, else the usual one for the purpose, else the only one.

    Raises:
        DataError: there is no such split, or several and none of a usual name.
    """
    source, offered = _short(request.locator.text), ", ".join(splits)
    if asked is not None:
        if asked in splits:
            return asked
        close = get_close_matches(asked, splits, n=1)
        raise DataError(
            f'"{source}" has no split "{_short(asked)}"',
            why=f"its splits are {offered}",
            fix=f"Did you mean split={close[0]}?" if close else "Choose one of them with ?split=…",
        )
    usual = ("train",) if request.purpose == "training" else VALIDATION_SPLITS
    for name in usual:
        if name in splits:
            return name
    if len(splits) == 1:
        return splits[0]
    raise DataError(
        f'"{source}" has no split that is usual for {request.purpose}',
        why=f"its splits are {offered}",
        fix="Choose one of them with ?split=…",
    )


def _short(text: str, longest: int = 80) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
