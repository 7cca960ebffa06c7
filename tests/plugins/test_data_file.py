"""The data source `file`: every format, every option, and one line for whatever is wrong."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ftcore import locators
from ftcore.contracts import DataRequest
from ftcore.errors import ConfigError, DataError, FtcoreError
from ftcore.plugins import Plugins, discover
from ftcore_data import file
from ftcore_data._settings import FileSettings

ROWS = [
    {"question": " Wann? ", "answer": "2020-01-01"},
    {"question": "line\r\nbreak\u2028\x85", "answer": "007"},
    {"question": "日本語 🎉", "answer": ""},
]


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return discover()


@pytest.fixture
def load(plugins: Plugins, tmp_path: Path) -> Callable[..., Dataset]:
    """Loads an id through the plugin manager; relative paths are looked up in `tmp_path`."""

    def _load(text: str, purpose: Any = "training", **keys: Any) -> Dataset:
        request = DataRequest(locators.parse(text), purpose, num_proc=1, seed=0, base_dir=tmp_path)
        section = FileSettings(**{"cache_dir": str(tmp_path / "cache"), **keys})
        return plugins.call("ftcore_load_dataset", "file", request=request, settings=section)

    return _load


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def arrow_stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


def write_csv(path: Path, delimiter: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    table = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    path.write_bytes("".join(delimiter.join(map(quoted, cells)) + "\r\n" for cells in table).encode())


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(lines(ROWS)),
    "crlf.ndjson": lambda path: path.write_bytes(lines(ROWS).replace(b"\n", b"\r\n")),
    "blank lines.jsonl": lambda path: path.write_bytes(b"\n" + lines(ROWS).replace(b"\n", b"\n \n")),
    "bom.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + lines(ROWS)),
    "no end.jsonl": lambda path: path.write_bytes(lines(ROWS).rstrip()),
    "array.json": lambda path: path.write_text(json.dumps(ROWS)),
    "pretty.json": lambda path: path.write_text(json.dumps(ROWS, indent=4)),
    "bom.json": lambda path: path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
    "array.jsonl": lambda path: path.write_text(json.dumps(ROWS)),
    "around.json": lambda path: path.write_text(json.dumps({"version": 2, "data": ROWS}, indent=1)),
    "lines.json": lambda path: path.write_bytes(lines(ROWS)),
    "UPPER.CSV": lambda path: write_csv(path, ","),
    "a.tsv": lambda path: write_csv(path, "\t"),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "a.arrow": lambda path: arrow_stream(path, pa.Table.from_pylist(ROWS)),
    "file format.arrow": lambda path: pyarrow.feather.write_feather(
        pa.Table.from_pylist(ROWS), str(path), compression="uncompressed"
    ),
    "folder": lambda path: Dataset.from_list(ROWS).save_to_disk(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_read_without_changing_a_text(name: str, load: Any, tmp_path: Path, capfd: Any) -> None:
    WRITERS[name](tmp_path / name)
    rows = load(name)
    assert isinstance(rows, Dataset)
    assert rows.to_list() == ROWS


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "folder"])
def test_each_file_may_be_gzipped(name: str, load: Any, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert load(packed.name).to_list() == ROWS


def test_small_files_leave_nothing_behind(load: Any, tmp_path: Path) -> None:
    WRITERS["a.jsonl"](tmp_path / "a.jsonl")
    load("a.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_id_is_looked_up_here_first_then_beside_the_configuration(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"a": "beside"}]))
    assert load("a.jsonl")[0] == {"a": "beside"}
    here = tmp_path / "here"
    here.mkdir()
    (here / "a.jsonl").write_bytes(lines([{"a": "here"}]))
    monkeypatch.chdir(here)
    assert load("a.jsonl")[0] == {"a": "here"}
    monkeypatch.setenv("HOME", str(here))
    assert load("file:~/a.jsonl")[0] == {"a": "here"}


@pytest.mark.parametrize(("rows", "kept"), [(1, 1), (2, 2), (3, 3), (4, 3)])
@pytest.mark.parametrize("name", ["a.jsonl", "UPPER.CSV", "a.parquet", "folder"])
def test_rows_keeps_the_front(name: str, rows: int, kept: int, load: Any, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert load(f"{name}?rows={rows}").to_list() == ROWS[:kept]


def folder_of(names: list[str]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(lines([{"from": name}]))

    return make


FOLDERS: list[tuple[list[str], str, Any, list[str]]] = [
    (["b.jsonl", "a.jsonl", "README.md", ".hidden.jsonl"], "", "training", ["a.jsonl", "b.jsonl"]),
    (["train.jsonl", "test.jsonl"], "", "training", ["train.jsonl"]),
    (["train.jsonl", "test.jsonl"], "", "validation", ["test.jsonl"]),
    (["train.jsonl", "test.jsonl", "val.jsonl"], "", "validation", ["val.jsonl"]),
    (["train.jsonl", "test.jsonl"], "?split=test", "training", ["test.jsonl"]),
    (["train.jsonl"], "", "validation", ["train.jsonl"]),
    (
        ["data/train-00001-of-00002.jsonl", "data/train-00000-of-00002.jsonl", "data/test-00000-of-00001.jsonl"],
        "",
        "training",
        ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"],
    ),
    (["train/x.jsonl", "validation/y.jsonl"], "", "validation", ["validation/y.jsonl"]),
    (["trainees.jsonl", "tests.jsonl"], "", "training", ["tests.jsonl", "trainees.jsonl"]),
    (["a.jsonl", "b.jsonl"], "?rows=1", "training", ["a.jsonl"]),
    (["train.jsonl", "extra.jsonl"], "?split=train", "training", ["train.jsonl"]),
]


@pytest.mark.parametrize(("names", "options", "purpose", "read"), FOLDERS)
def test_the_files_of_a_folder(
    names: list[str], options: str, purpose: Any, read: list[str], load: Any, tmp_path: Path
) -> None:
    folder_of(names)(tmp_path / "d")
    assert load(f"d{options}", purpose)["from"] == read


def test_the_splits_of_a_dataset_dict(load: Any, tmp_path: Path, capfd: Any) -> None:
    splits = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}
    DatasetDict(splits).save_to_disk(tmp_path / "d")
    assert load("d").to_list() == ROWS
    assert load("d", "validation").to_list() == ROWS[:1]
    assert load("d?split=test").to_list() == ROWS[:1]
    with pytest.raises(DataError, match=r'"d\?split=tset" has no split "tset": its splits are train, test'):
        load("d?split=tset")


def test_nested_columns_numbers_and_missing_cells(load: Any, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "a"}], "score": 1},
        {"messages": [{"role": "assistant", "content": "b", "name": "x"}], "score": 2.5, "extra": True},
        {"messages": None, "score": None},
    ]
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    read = load("a.jsonl")
    assert read.column_names == ["messages", "score", "extra"]
    assert read[0] == {"messages": [{"role": "user", "content": "a", "name": None}], "score": 1.0, "extra": None}
    assert read[2] == {"messages": None, "score": None, "extra": None}


def test_a_column_that_first_appears_far_down(load: Any, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": None, "n": 1, "m": [{"x": 1}]} for _ in range(5000)]
    rows.append({"a": "late", "n": 0.5, "m": [{"x": 1, "y": "new"}], "b": "new"})
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    for limit in (256, 0):  # in memory, and through the disk
        read = load("a.jsonl", memory_limit_mb=limit)
        assert read.column_names == ["a", "n", "m", "b"]
        assert read[0] == {"a": None, "n": 1.0, "m": [{"x": 1, "y": None}], "b": None}
        assert read[5000] == rows[5000]


def test_large_data_are_mapped_from_one_file_that_is_made_once(load: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"a": "x" * 100, "i": i} for i in range(20_000)]))
    read = load("a.jsonl", memory_limit_mb=1)
    (cached,) = (tmp_path / "cache").glob("*/rows.arrow")
    assert [entry["filename"] for entry in read.cache_files] == [str(cached)]
    assert read["i"][:] == list(range(20_000))
    made = cached.stat().st_mtime_ns
    assert load("a.jsonl", memory_limit_mb=1).num_rows == 20_000
    assert cached.stat().st_mtime_ns == made
    path.write_bytes(lines([{"a": "y" * 100, "i": -i} for i in range(20_000)]))
    os.utime(path, ns=(1, 1))
    assert load("a.jsonl", memory_limit_mb=1)[1]["i"] == -1
    assert load("a.jsonl?rows=5", memory_limit_mb=1).num_rows == 5


def test_text_columns_make_texts_of_anything(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"a": 1}, {"a": "1"}, {"a": [True]}, {"a": None}, {"a": "é"}]))
    assert load("a.jsonl", text_columns=["a"])["a"] == ["1", "1", "[true]", None, "é"]
    pq.write_table(pa.table({"a": [0, 1, None]}), tmp_path / "a.parquet")
    assert load("a.parquet", text_columns=["a"])["a"] == ["0", "1", None]


def test_dictionary_encoded_columns_are_plain_texts(load: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert load("a.parquet")["a"] == ["x", "y", "x"]


def test_another_encoding_and_delimiter(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a;b\nÄ;1\n".encode("latin-1"))
    assert load("a.csv", encoding="latin-1", csv_delimiter=";").to_list() == [{"a": "Ä", "b": "1"}]
    (tmp_path / "b.jsonl").write_bytes('{"a": "Ä"}\n'.encode("utf-16"))
    assert load("b.jsonl", encoding="utf-16").to_list() == [{"a": "Ä"}]


def test_long_values(load: Any, tmp_path: Path) -> None:
    long = "a\u00e4" * 1_500_000
    for name in ("a.jsonl", "a.json"):
        (tmp_path / name).write_text(json.dumps([{"a": long}, {"a": "b"}]), encoding="utf-8")
        assert load(name)["a"] == [long, "b"]
    (tmp_path / "a.csv").write_text(f'a,b\n"{long}",c\n', encoding="utf-8")
    assert load("a.csv")[0]["a"] == long


def outcome(load: Any, text: str) -> str:
    """What a DataError says; empty where rows were read. Any other error is the test's failure."""
    try:
        rows = load(text)
    except DataError as error:
        return str(error)
    assert len(rows) > 0
    return ""


CANNOT = "cannot read the data file"
TWICE_TEXT = "Make them alike, or read them as text: [file] text_columns"

BROKEN: list[tuple[str, bytes, str]] = [
    ("empty.jsonl", b"", "it is empty. Check the file"),
    ("blank.csv", b" \n\n", "it is empty. Check the file"),
    ("empty.parquet", b"", "it is empty. Check the file"),
    ("empty.jsonl.gz", b"", "it is empty. Check the file"),
    ("junk.jsonl", bytes(range(256)), "it is binary, not text. Check the file"),
    ("parquet.csv", b"PAR1\x00", "it holds Parquet data, and its name says otherwise. Give it the right ending"),
    ("a.jsonl", b'{"a": 1}\n{"a": }\n', "line 2 is not valid JSON: Expecting value (column 7). Correct the file"),
    (
        "half.jsonl",
        b'{"a": 1}\n{"a": "b',
        "line 2 is not valid JSON: Unterminated string starting at (column 7). Correct the file",
    ),
    ("list.jsonl", b'{"a": 1}\n[1]\n', "line 2 is a list, not an object. Write each row as {column: value}"),
    ("a.json", b"[1, 2]", "item 1 is a number, not an object. Write each row as {column: value}"),
    ("text.json", b'"rows"', "it holds a text, not a list of objects. Correct the file"),
    (
        "one.json",
        b'{"a": 1}',
        "it is one object without a list of rows. Write a list of objects, or one a line",
    ),
    (
        "two.json",
        b'{"a": [{"b": 1}], "c": [{"b": 1}]}',
        'it holds several lists of rows ("a", "c"). Keep one list a file',
    ),
    (
        "half.json",
        b'[{"a": 1},\n {"a": 2',
        "line 2 is not valid JSON: Expecting ',' delimiter (column 9). Correct the file",
    ),
    ("open.json", b'[{"a": 1},\n{"a": 2}', "its list ends too early, after item 2. Correct the file"),
    ("comma.json", b'[{"a": 1},\n', "its list ends too early, after item 1. Correct the file"),
    ("no comma.json", b'[{"a": 1}\n{"a": 2}]', "line 2 is not valid JSON: expected ','. Correct the file"),
    ("more.json", b'[{"a": 1}]\n\n{"b": 1}', "something follows the list in line 3. Correct the file"),
    ("object.json", b'{"data":\n [1,}', "line 2 is not valid JSON: Expecting value (column 5). Correct the file"),
    ("deep.jsonl", b'{"a":' * 100_000, "line 1: it is nested too deeply. Correct the file"),
    ("deep.json", b'[{"a":' * 100_000, "line 1: it is nested too deeply. Correct the file"),
    ("twice.jsonl", b'{"a": 1, "a": 2}', 'line 1: the name "a" stands twice in one object. Correct the file'),
    ("nameless.jsonl", b'{"": 1}', "line 1 has a column without a name. Correct the file"),
    (
        "mixed.jsonl",
        b'{"a": "b"}\n\n{"a": 1}',
        f'"a" is text in line 1 and a number in line 3. {TWICE_TEXT} = ["a"]',
    ),
    (
        "mixed.json",
        b'[{"a": [1]}, {"a": {"b": 1}}]',
        f'"a" is a list in item 1 and an object in item 2. {TWICE_TEXT} = ["a"]',
    ),
    (
        "inside.jsonl",
        b'{"a": [1]}\n{"a": ["b"]}',
        f'"a" holds values of different shapes inside of its lists or objects. {TWICE_TEXT} = ["a"]',
    ),
    (
        "large.jsonl",
        b'{"a": 123456789012345678901234567890}',
        f'"a" holds a number that does not fit into 64 bits. {TWICE_TEXT} = ["a"]',
    ),
    ("half.ndjson", b'{"a": "\\ud800"}', '"a" in line 1 holds half of a surrogate pair. Correct the text'),
    (
        "latin.jsonl",
        '{"a": "b"}\n{"a": "é"}\n'.encode("latin-1"),
        "it is not utf-8 in line 2 (byte 0xe9). Save it as UTF-8, or name its encoding: [file] encoding",
    ),
    (
        "latin.json",
        '{"data": [{"a": "é"}]}'.encode("latin-1"),
        "it is not utf-8 in line 1 (byte 0xe9). Save it as UTF-8, or name its encoding: [file] encoding",
    ),
    (
        "wide.csv",
        "a,b\n1,2".encode("utf-16"),
        'it is UTF-16, not utf-8. Save it as UTF-8, or set [file] encoding = "utf-16"',
    ),
    (
        "ragged.csv",
        b'a,b\n"x\ny",1\n1,2,3\n',
        "line 4 has 3 cells and there are 2 columns. "
        "Put quotation marks around cells that hold the delimiter or a line break",
    ),
    (
        "short.csv",
        b"a,b\n1\n",
        "line 2 has 1 cells and there are 2 columns. "
        "Put quotation marks around cells that hold the delimiter or a line break",
    ),
    (
        "open.csv",
        b'a,b\n"1,2\n3,4\n',
        "a quotation mark is opened and never closed. "
        "Correct the file; a quotation mark inside a quoted cell is doubled",
    ),
    (
        "quote.csv",
        b'a,b\n"1"x,2\n',
        "line 2: ',' expected after '\"'. Correct the file; a quotation mark inside a quoted cell is doubled",
    ),
    ("twice.csv", b"a,a\n1,2\n", 'two columns are named "a". Rename one of them'),
    (
        "nameless.csv",
        b",a\n0,1\n",
        "column 1 has no name. Name it in the first line (pandas writes such a column unless index=False)",
    ),
    ("blank first.csv", b"\na,b\n1,2\n", "its first line is empty. Name the columns in the first line"),
    (
        "semicolon.csv",
        b"a;b\n1;2\n",
        "its first line has one column that holds ';'. Set [file] csv_delimiter = \";\"",
    ),
    ("cut.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999)[:-12], "its gzip stream ends too early. Copy or download it again"),
    ("plain.jsonl.gz", b'{"a": 1}', "it ends in .gz and is not gzip. Check the file"),
    (
        "a.txt",
        b"hello",
        'the ending ".txt" is unknown. Known are .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, each also with .gz',
    ),
    (
        "noending",
        b"hello",
        "its name has no ending that tells its format. "
        "Known are .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, each also with .gz",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "text"), BROKEN, ids=[name for name, _, _ in BROKEN])
def test_a_broken_file_is_one_line(name: str, content: bytes, text: str, load: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        load(name)
    assert str(raised.value) == f'{CANNOT} "{path}": {text}'


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("damage", ["front", "back", "all", "middle"])
def test_a_damaged_columnar_file_is_one_line(kind: str, damage: str, load: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    table = pa.table({"a": [f"text {i}" for i in range(2000)]})
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        arrow_stream(path, table)
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        {
            "front": content[half:],
            "back": content[:half],
            "all": bytes(range(256)) * 8,
            "middle": content[:half] + b"\xff" * 64 + content[half + 64 :],
        }[damage]
    )
    message = outcome(load, path.name)
    if message:
        assert message.startswith(f'{CANNOT} "{path}": it is no valid {kind.capitalize()} file: ')
    else:
        assert damage == "middle"  # uncompressed texts may be other texts


def test_a_damaged_gzip_stream(load: Any, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(lines([{"a": os.urandom(50).hex()} for _ in range(999)])))
    packed[2000:2100] = b"\x00" * 100
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"its gzip stream is damaged|is not valid JSON|is binary|is not utf-8"):
        load("a.jsonl.gz")


REFUSED: list[tuple[str, type[FtcoreError], str]] = [
    (
        "trian.jsonl",
        DataError,
        'there is no file or folder "trian.jsonl": it is not in {cwd} or {tmp}. Did you mean train.jsonl?',
    ),
    ("{tmp}/zzz", DataError, 'there is no file or folder "{tmp}/zzz": it is not in {tmp}. Correct the path'),
    (
        "{tmp}/no/where.jsonl",
        DataError,
        'there is no file or folder "{tmp}/no/where.jsonl": the folder {tmp}/no does not exist. '
        "Correct training_data_id or validation_data_id",
    ),
    (
        "train.jsonl?rwos=1",
        ConfigError,
        'the id "train.jsonl?rwos=1" has the option "rwos", which is unknown: known here: split, rows. '
        "Did you mean rows?",
    ),
    (
        "train.jsonl?xyz=1",
        ConfigError,
        'the id "train.jsonl?xyz=1" has the option "xyz", which is unknown: known here: split, rows. Remove it',
    ),
    *(
        (
            f"train.jsonl?rows={rows}",
            ConfigError,
            f'the id "train.jsonl?rows={rows}" asks for rows={rows}: rows is how many rows to keep from the front, '
            "at least 1. Write it as rows=1000",
        )
        for rows in ("0", "-1", "1.5", "all", "٣")
    ),
    (
        "train.jsonl?rows=",
        ConfigError,
        'the id "train.jsonl?rows=" has the option "rows" without a value. Write rows=… or remove it',
    ),
    (
        "train.jsonl?split=train",
        ConfigError,
        'the id "train.jsonl?split=train" asks for a split of a single file: only folders have splits. '
        "Remove split=…, or keep the front of the file with rows=…",
    ),
    (
        "nothing",
        DataError,
        'the folder "{tmp}/nothing" has no data files: files end in .json, .jsonl, .ndjson, .csv, .tsv, .parquet, '
        ".arrow, each also with .gz; a folder from save_to_disk has a state.json. Correct the path, or name a file",
    ),
    (
        "both",
        DataError,
        'which files of the folder "{tmp}/both" are meant is not clear: some are named by a split, like train.jsonl, '
        "and some are not: other.jsonl. Name a file, or choose with ?split=…",
    ),
    (
        "both?split=tain",
        DataError,
        '"both?split=tain" has no split "tain": its splits are train. Did you mean split=train?',
    ),
    (
        "unsplit?split=train",
        DataError,
        'the folder "{tmp}/unsplit" has no splits: none of its files or folders is named like one, e.g. train.jsonl. '
        "Remove split=…",
    ),
    (
        "held",
        DataError,
        '"held" has no split that is usual for training: its splits are test, validation. '
        "Choose one of them with ?split=…",
    ),
    ("header.csv", DataError, '"header.csv" has no rows. Check the data'),
    ("none.parquet", DataError, '"none.parquet" has no rows. Check the data'),
    ("none.json", DataError, '"none.json" has no rows. Check the data'),
    (
        "saved?split=train",
        ConfigError,
        'the id "saved?split=train" asks for a split of a single dataset: '
        "the folder holds one Dataset, not a DatasetDict. Remove split=…",
    ),
    ("pipe.jsonl", DataError, '"{tmp}/pipe.jsonl" is neither a file nor a folder. Name a data file'),
    (
        "x" * 300,
        DataError,
        'the path "' + "x" * 80 + '…" cannot be used: File name too long. Correct it',
    ),
    ("a\0b", DataError, 'there is no file or folder "a\0b": it is not in {cwd} or {tmp}. Correct the path'),
]


@pytest.mark.parametrize(("text", "kind", "message"), REFUSED, ids=[text[:30] for text, _, _ in REFUSED])
def test_what_is_not_there_is_one_line(
    text: str, kind: type[FtcoreError], message: str, load: Any, tmp_path: Path, capfd: Any
) -> None:
    folder_of(["train.jsonl", "both/train.jsonl", "both/other.jsonl", "unsplit/a.jsonl"])(tmp_path)
    folder_of(["held/test.jsonl", "held/validation.jsonl"])(tmp_path)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "none.json").write_text("[]")
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "none.parquet")
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(FtcoreError) as raised:
        load(text.format(tmp=tmp_path))
    assert type(raised.value) is kind
    wanted = message.format(tmp=tmp_path, cwd=Path.cwd())
    assert str(raised.value) == wanted


def test_a_column_that_changes_its_type_far_down(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"a": "x"}] * 4096 + [{"a": 1}]))
    for limit in (256, 0):
        with pytest.raises(DataError) as raised:
            load("a.jsonl", memory_limit_mb=limit)
        assert str(raised.value) == (
            'the column "a" of "a.jsonl" changes its type: it is text at first and a number further on. '
            'Make it one type, or read it as text: [file] text_columns = ["a"]'
        )
    assert load("a.jsonl", text_columns=["a"])[4096] == {"a": "1"}
    assert not list(tmp_path.glob("cache/*"))


def test_large_and_without_rows(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" + " " * 2_000_000 + "]")
    with pytest.raises(DataError) as raised:
        load("a.json", memory_limit_mb=1)
    assert str(raised.value) == '"a.json" has no rows. Check the data'


def test_a_type_that_datasets_cannot_hold(load: Any, tmp_path: Path) -> None:
    arrow_stream(tmp_path / "a.arrow", pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}))
    for limit in (256, 0, 0):  # in memory, through the disk, and found there again
        with pytest.raises(DataError, match=r'"a.arrow" has a column of a type that cannot be read: .*interval'):
            load("a.arrow", memory_limit_mb=limit)


def test_a_text_column_that_is_not_there(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    with pytest.raises(DataError) as raised:
        load("a.jsonl", text_columns=["answr"])
    assert str(raised.value) == (
        '"a.jsonl" has no column "answr", which [file] text_columns names: its columns are question, answer. '
        "Correct text_columns"
    )


def test_damaged_saved_folders_are_one_line(load: Any, tmp_path: Path, capfd: Any) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "a")
    (tmp_path / "a" / "state.json").write_text("{")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    for name in ("a", "b"):
        with pytest.raises(DataError, match=r"which save_to_disk wrote: .*Copy or write it again"):
            load(name)


def test_a_cache_that_cannot_be_written(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r'the rows of "a.jsonl" cannot be kept in .*cache_dir or FTCORE_CACHE'):
        load("a.jsonl", memory_limit_mb=0, cache_dir=str(tmp_path / "file"))


@pytest.mark.parametrize("values", [{"encoding": "utf-9"}, {"csv_delimiter": ";;"}, {"memory_limit_mb": -1}])
def test_settings_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FileSettings(**values)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), name=st.sampled_from([*WRITERS][:-1]), gz=st.booleans())
def test_any_bytes_are_rows_or_one_line(content: bytes, name: str, gz: bool, load: Any, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if gz else name)
    path.write_bytes(gzip.compress(content) if gz else content)
    assert "\n" not in outcome(load, path.name)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.fixed_dictionaries({"a": TEXTS, "b": TEXTS}), min_size=1, max_size=8), indent=st.booleans())
def test_every_text_survives_every_json_shape(rows: Any, indent: bool, load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=2 if indent else None), encoding="utf-8")
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    assert load("a.json").to_list() == load("a.jsonl").to_list() == rows


def test_arrays_larger_than_one_piece(load: Any, tmp_path: Path) -> None:
    rows = [{"a": "x" * (1 + 7919 * i % 5000), "i": i} for i in range(1500)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    assert load("a.json").to_list() == rows
    text = json.dumps(rows, indent=1)
    place = text.index('"i": 1400')
    (tmp_path / "b.json").write_text(text[:place] + "!" + text[place:])
    line = text.count("\n", 0, place) + 1
    with pytest.raises(DataError, match=re.escape(f"line {line} is not valid JSON")):
        load("b.json")


def test_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, ftcore_data.file, ftcore_data.hf, ftcore_formats.qa, ftcore_formats.instruction, "
        "ftcore_formats.messages; "
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'huggingface_hub', 'numpy', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_section_is_offered(plugins: Plugins) -> None:
    assert plugins.call("ftcore_settings", "file") is FileSettings
    assert {"file", "hf"} <= set(plugins.serving("data"))
    assert file.OPTIONS == ("split", "rows")
