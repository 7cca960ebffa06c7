"""Reading TOML, and finding the line of a key again.

tomli gives values without positions, so the lines are found by a scan over the tokens of a text that tomli has already
accepted: it only has to tell strings, comments, brackets and keys apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli

from ftcore.errors import ConfigError

_SHOWN = 120
_PIECE = 2**16  # bytes
_LARGEST = 16 * 2**20  # bytes; a model's weights given by mistake would fill the memory before anything is said
_DEEPEST = 16

_TOKEN = re.compile(
    r'''
    (?P<string>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<comment>\#[^\n]*)
    |(?P<newline>\n)
    |(?P<open>[\[{])
    |(?P<close>[\]}])
    |(?P<equals>=)
    |(?P<bare>[A-Za-z0-9_-]+)
    |(?P<other>.)
    ''',
    re.VERBOSE | re.DOTALL,
)

_PLAIN = {
    "Cannot overwrite a value": "a key stands there twice",
    "Invalid value": "this is no value; texts stand in quotes, true and false are written small",
    "Illegal character '\\n'": "a text in quotes ends on the line where it begins (three quotes open a longer one)",
    "Found invalid character '\\n'": "a text in quotes ends on the line where it begins (three quotes open a longer one)",
    "Unescaped '\\' in a string": "a backslash in double quotes is written twice, or the text in single quotes",
    "Unclosed array": "a list is not closed with ]",
    "Unclosed inline table": "a table is not closed with }",
}
_UNCLOSED = ('Expected "\'"', "Expected \"'''\"", "Unterminated string")
_TWICE = re.compile(r"Cannot declare \((?P<parts>.*)\) twice")


def read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a TOML file, and the line (from 1) of each `section` and `section.key`.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or is not TOML.
    """
    return parse(_text(path), str(path))


def parse(text: str, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """As `read`, from a text; messages call it `name`.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        values = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(name, text, error)) from None
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError:  # an integer longer than Python converts
        number = re.search(r"[0-9_]{1000,}", text)
        line = text.count("\n", 0, number.start()) + 1 if number else 1
        raise ConfigError(f"{name}:{line}: the number has too many digits to be meant") from None
    if is_too_deep(values):
        raise _too_deep(name)
    return values, key_lines(text)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = b""
            # Not by the file's size: a device has none, and no end. What is asked for at once is allocated at once.
            while len(content) <= _LARGEST and (piece := file.read(_PIECE)):
                content += piece
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} is too large for a configuration", fix="Name a TOML file of at most 16 MiB")
        return content.decode("utf-8").removeprefix("\ufeff")  # Windows' editors write that mark
    except FileNotFoundError:
        standard_input = "Write a file: a run is gone on with, and started in other processes, by its name"
        fix = standard_input if str(path) == "-" else "Check the path"
        raise ConfigError(f"there is no file {path}", fix=fix) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder", fix="Name the configuration file in it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a text file in UTF-8",
            why=f"byte {error.start} is 0x{error.object[error.start]:02x}",
            fix="Save it as UTF-8",
        ) from None


def _too_deep(name: str) -> ConfigError:
    return ConfigError(f"{name} is nested too deeply", fix="A configuration has sections, and keys in them")


def is_too_deep(values: Any) -> bool:
    """Whether tables and lists lie deeper in each other than a file may have them."""
    return _depth(values) > _DEEPEST


def _depth(values: Any) -> int:
    """How deep tables and lists lie in each other; without recursion, which is what it protects from."""
    deepest, level = 0, [values]
    while level:
        deepest += 1
        children = (value.values() if isinstance(value, dict) else value for value in level)
        level = [item for items in children for item in items if isinstance(item, dict | list)]
    return deepest


def _syntax_message(name: str, text: str, error: tomli.TOMLDecodeError) -> str:
    number, column = error.lineno, error.colno
    twice = _TWICE.fullmatch(error.msg)
    reason = _PLAIN.get(error.msg, error.msg[:1].lower() + error.msg[1:])
    if twice:
        reason = f"the section [{'.'.join(_strings(twice['parts']))}] stands there twice"
    elif error.msg in _UNCLOSED:
        number, column = _open_quote(text) or (number, column)
        reason = "a text in quotes is not closed"
    lines = text.replace("\r\n", "\n").split("\n")
    line = lines[min(number, len(lines)) - 1]
    start = max(0, column - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = "…" * bool(start) + line[start : start + _SHOWN].strip() + "…" * (len(line) > start + _SHOWN)
    shown = "".join(char if char.isprintable() else "�" for char in shown)
    return f"{name}:{number}:{column}: not valid TOML: {reason}" + (f". The line is: {shown}" if shown else "")


def _open_quote(text: str) -> tuple[int, int] | None:
    """Line and column of the quote that is never closed; the scanner takes every closed text as one token."""
    for token in _TOKEN.finditer(text.replace("\r\n", "\n")):
        if token.lastgroup == "other" and token[0] in "\"'":
            before = token.string[: token.start()]
            return before.count("\n") + 1, token.start() - (before.rfind("\n") + 1) + 1
    return None


def _strings(parts: str) -> list[str]:
    return [part.strip(" '\"") for part in parts.split(",") if part.strip()]


def key_lines(text: str) -> dict[str, int]:
    """The line, from 1, of every table (`section`) and key (`section.key`) in a valid TOML text.

    A key inside an inline table or an array has the line of the key that holds it.
    """
    lines: dict[str, int] = {}
    section: tuple[str, ...] = ()
    for number, is_header, path in _statements(text):
        if is_header:
            section = path
        whole = path if is_header else (*section, *path)
        for length in range(1, len(whole) + 1):
            lines.setdefault(".".join(whole[:length]), number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, bool, tuple[str, ...]]]:
    """Each statement's line, whether it is a table's header, and the parts of its key."""
    number, depth, start = 1, 0, 1
    parts: list[str] = []
    is_header = in_value = False
    for token in _TOKEN.finditer(text.replace("\r\n", "\n")):
        kind, word = token.lastgroup, token[0]
        if kind == "newline" and not depth:
            if parts:
                yield start, is_header, tuple(parts)
            parts, is_header, in_value = [], False, False
        elif in_value:
            depth += {"open": 1, "close": -1}.get(kind or "", 0)
        elif kind == "open":
            is_header = True
        elif kind == "equals":
            in_value = True
        elif kind in ("bare", "string"):
            start = number
            parts.append(_key(word))
        number += word.count("\n")
    if parts:
        yield start, is_header, tuple(parts)


def _key(word: str) -> str:
    if word[0] == '"' and "\\" in word:
        return str(next(iter(tomli.loads(f"{word} = 0"))))
    return word[1:-1] if word[0] in "\"'" else word
