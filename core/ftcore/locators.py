"""Ids of models and datasets: `[prefix:]path[?option=value&...]`."""

from __future__ import annotations

from urllib.parse import parse_qsl

from ftcore.contracts import Locator
from ftcore.errors import ConfigError
from ftcore.text import short

_PREFIX_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def split_prefix(text: str) -> tuple[str, str]:
    """The plugin's name before the colon, and the rest; no prefix is an empty string.

    A Windows drive letter (`C:\\data`) is not a prefix, nor is a URL's scheme (`s3://…` is left whole, so that a
    data source that reads URLs sees all of it).
    """
    prefix, colon, rest = text.partition(":")
    if not colon or len(prefix) < 2 or not set(prefix) <= _PREFIX_CHARS or rest.startswith("//"):
        return "", text
    return prefix, rest


def parse(text: str) -> Locator:
    """An id without its prefix, its options read.

    Raises:
        ConfigError: the options are not `name=value` pairs, or one is given twice.
    """
    path, mark, query = split_prefix(text)[1].partition("?")
    if not mark:
        return Locator(text, path)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    if not path or not pairs or len(dict(pairs)) < len(pairs):
        raise ConfigError(
            f'the id "{short(text)}" cannot be read',
            why="behind the question mark stand options like split=train, each once, joined by &",
            fix="Write it as path?option=value&option=value",
        )
    return Locator(text, path, dict(pairs))
