"""Reading TOML, and finding the line of a key again.

tomli gives values without positions, so the lines are found by a scan of the text: table headers and `key =` at the
start of a line, strings and arrays over several lines skipped. A key inside an inline table has its table's line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tomli

from ftcore.errors import ConfigError

_HEADER = re.compile(r"^\s*\[\[?\s*(?P<name>[^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(
    r"""^\s*(?P<key>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_SHOWN = 120


def read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a TOML file, and the line (from 1) of each `section.key`.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or is not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", fix="Check the path") from None
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
    try:
        values = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(path, text, error)) from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply", fix="A configuration needs two levels") from None
    return values, key_lines(text)


def _syntax_message(path: Path, text: str, error: tomli.TOMLDecodeError) -> str:
    # tomli says "at end of document" without a position there; its lines count from 1.
    lines = text.splitlines() or [""]
    line = min(error.lineno, len(lines))
    shown = lines[line - 1].strip()
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    return f"{path}:{error.lineno}:{error.colno}: not valid TOML: {error.msg}. The line is: {shown}"


def key_lines(text: str) -> dict[str, int]:
    """The line, from 1, of every table (`section`) and key (`section.key`) in a TOML text."""
    lines: dict[str, int] = {}
    section: tuple[str, ...] = ()
    closing = ""  # the delimiter that ends the multi-line string we are in
    depth = 0  # how many brackets of a multi-line array are open
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            closing = "" if closing in line else closing
            continue
        if depth:
            depth += _bracket_balance(line)
            continue
        if header := _HEADER.match(line):
            section = _parts(header["name"])
            lines.setdefault(".".join(section), number)
        elif key := _KEY.match(line):
            path = (*section, *_parts(key["key"]))
            for length in range(1, len(path) + 1):
                lines.setdefault(".".join(path[:length]), number)
            value = line[key.end() :]
            closing = _unclosed_string(value)
            depth = 0 if closing else max(0, _bracket_balance(value))
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _unclosed_string(value: str) -> str:
    for quotes in ('"""', "'''"):
        if value.count(quotes) % 2:
            return quotes
    return ""


def _bracket_balance(line: str) -> int:
    bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line).split("#", 1)[0]
    return bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
