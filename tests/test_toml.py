"""The lines of keys in TOML texts, and what is said about files that are no TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as some

from ftcore.config import toml
from ftcore.errors import ConfigError


def lines_of(text: str) -> dict[str, int]:
    return toml.key_lines(text)


def test_tables_and_keys_have_the_lines_they_stand_on() -> None:
    assert lines_of("# top\n[fine_tuner]\nrank = 8\n\n  epochs=1 # two\n[run]\nname = 'x'\n") == {
        "fine_tuner": 2,
        "fine_tuner.rank": 3,
        "fine_tuner.epochs": 5,
        "run": 6,
        "run.name": 7,
    }


@pytest.mark.parametrize(
    "value",
    [
        '"""\nrank = 8\n[run]\n"""',
        "'''\nrank = 8\n[run]\n'''",
        '"""a\\"""\nrank = 8\n\\\\"""',
        '"""ends with two quotes\nrank = 1"""""',
        '[\n  "rank = 8", # ] not the end\n  "[run]",\n]',
        '[ # """ no text\n 1,\n2]',
        '{ rank = 8,\n run = "}" }',
        '\'"""\'\n\n',
        '"# not a comment, = nor a key"\n\n',
    ],
)
def test_what_stands_inside_a_value_is_no_key(value: str) -> None:
    text = f"[fine_tuner]\nfirst = {value}\nlast = 1\n"
    line = text[: text.index("last")].count("\n") + 1
    assert lines_of(text) == {"fine_tuner": 1, "fine_tuner.first": 2, "fine_tuner.last": line}


def test_dotted_quoted_and_nested_keys() -> None:
    text = 'fine_tuner.rank = 8\n["mlflow" . tags]\n"a b" = "x"\n"r\\u0061nk" = 1\n[[list]]\nx = 1\n[ spaced ] # note\ny = 1'
    assert lines_of(text) == {
        "fine_tuner": 1,
        "fine_tuner.rank": 1,
        "mlflow": 2,
        "mlflow.tags": 2,
        "mlflow.tags.a b": 3,
        "mlflow.tags.rank": 4,
        "list": 5,
        "list.x": 6,
        "spaced": 7,
        "spaced.y": 8,
    }


def test_windows_line_ends_and_unusual_separators_do_not_shift_lines() -> None:
    assert lines_of('[a]\r\nb = """\r\nx\r\n"""\r\nc = 1\r\n') == {"a": 1, "a.b": 2, "a.c": 5}
    assert lines_of('[a]\nb = "\u2028 \x85"\nc = 1\n') == {"a": 1, "a.b": 2, "a.c": 3}


def test_reading_gives_values_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf[a]\r\nb = 1\r\n")
    assert toml.read(path) == ({"a": {"b": 1}}, {"a": 1, "a.b": 2})


SYNTAX = {
    "[a]\nb = \n": "2:5: not valid TOML: this is no value; texts stand in quotes, true and false are written small. The line is: b =",
    "[a]\nb = True\n": "2:5: not valid TOML: this is no value; texts stand in quotes, true and false are written small. The line is: b = True",
    "[a]\nb = 1\nb = 2\n": "3:6: not valid TOML: a key stands there twice. The line is: b = 2",
    "[a]\n[b]\n[a]\n": "3:3: not valid TOML: the section [a] stands there twice. The line is: [a]",
    "[a]\n[a.b]\n[a.b]\n": "3:5: not valid TOML: the section [a.b] stands there twice. The line is: [a.b]",
    "[a": "1:3: not valid TOML: expected ']' at the end of a table declaration. The line is: [a",
    "[a]\nb = 'x\n": "2:5: not valid TOML: a text in quotes is not closed. The line is: b = 'x",
    '[a]\nb = "x': '2:5: not valid TOML: a text in quotes is not closed. The line is: b = "x',
    '[a]\nb = "x\nc = 1': '2:7: not valid TOML: a text in quotes ends on the line where it begins (three quotes open a longer one). The line is: b = "x',
    "[a]\nb = [1\nc = 2": "3:1: not valid TOML: a list is not closed with ]. The line is: c = 2",
    '[a]\nb = "C:\\data"\n': '2:10: not valid TOML: a backslash in double quotes is written twice, or the text in single quotes. The line is: b = "C:\\data"',
    "[a]\nb = '''\nx": "2:7: not valid TOML: a text in quotes is not closed. The line is: b = '''",
    "[a]\nb c\n": "2:3: not valid TOML: expected '=' after a key in a key/value pair. The line is: b c",
    "\x00": "1:1: not valid TOML: invalid statement. The line is: �",
}


@pytest.mark.parametrize("text", SYNTAX)
def test_syntax_errors_have_line_column_and_the_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        toml.read(path)
    assert str(caught.value) == f"{path}:{SYNTAX[text]}"


def test_a_long_line_is_shown_around_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("a = [" + "1, " * 400_000 + "!]\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        toml.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:1:1200006: not valid TOML: this is no value")
    assert message.endswith("1, 1, !]")
    assert len(message) < 400


# A dot inside a key would make two keys of one name possible.
_KEYS = some.text(min_size=1, max_size=4).filter(lambda key: "." not in key)
_TEXTS = some.text(alphabet="ab\"'#=[]{}\\\n\r\t é\u2028", max_size=12)
_VALUES = some.recursive(
    some.integers(-9, 9) | some.booleans() | _TEXTS, lambda inner: some.lists(inner, max_size=3), max_leaves=6
)


@given(some.dictionaries(_KEYS, some.dictionaries(_KEYS, _VALUES, max_size=4), max_size=4), some.booleans())
def test_any_document_has_the_line_of_every_key(document: dict[str, dict[str, object]], multiline: bool) -> None:
    # Written statement by statement, so that where each begins is known without reading TOML.
    text, places = "", {}
    for section, table in document.items():
        places[section] = text.count("\n") + 1
        text += tomli_w.dumps({section: {}})
        for key, value in table.items():
            places[f"{section}.{key}"] = text.count("\n") + 1
            text += tomli_w.dumps({key: value}, multiline_strings=multiline)
    assert toml.key_lines(text) == places, text
