"""Rows that come in pieces become one dataset, in memory or on disk, and one piece at a time is read."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcore import arrow, cache
from ftcore.errors import DataError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("datasets", reason="what is made is a datasets.Dataset")

LIMITS = pytest.mark.parametrize("limit", [0, 1 << 20], ids=["on disk", "in memory"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pages(count: int, size: int = 10) -> Iterator[list[dict[str, Any]]]:
    for page in range(count):
        yield [{"question": f"{page}?", "answer": f"{number}."} for number in range(size)]


def left(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


@LIMITS
def test_rows_tables_and_batches_in_their_order(limit: int, folder: Path) -> None:
    rows = [{"a": number, "b": str(number)} for number in range(6)]
    pieces = [rows[:2], pa.Table.from_pylist(rows[2:4]), pa.RecordBatch.from_pylist(rows[4:]), []]
    made = arrow.dataset(pieces, "all", "shop", key="ab12", memory_limit=limit)
    assert made.to_list() == rows
    assert bool(made.cache_files) is not bool(limit)
    assert sorted(left(folder)) == ([] if limit else ["shop/ab12/about.json", "shop/ab12/rows.arrow"])


@LIMITS
def test_columns_that_come_late_or_turn_out_wider(limit: int) -> None:
    pieces = [
        [{"a": 1, "b": None, "m": [{"x": 1}]}],
        [{"b": "text", "m": []}],
        [{"a": 0.5, "m": [{"x": 2, "y": "new"}], "c": True}],
        [{"a": 2}],
    ]
    made = arrow.dataset(pieces, "late", "shop", memory_limit=limit)
    assert made.to_list() == [
        {"a": 1.0, "b": None, "m": [{"x": 1, "y": None}], "c": None},
        {"a": None, "b": "text", "m": [], "c": None},
        {"a": 0.5, "b": None, "m": [{"x": 2, "y": "new"}], "c": True},
        {"a": 2.0, "b": None, "m": None, "c": None},
    ]


def test_with_a_key_rows_are_read_once() -> None:
    first = arrow.dataset(pages(3), "shop:1", "shop", key="ab12")

    def never() -> Iterator[Any]:
        raise AssertionError("read again")
        yield

    again = arrow.dataset(never(), "shop:1", "shop", key="ab12")
    assert again.to_list() == first.to_list()
    assert len(again) == 30
    (entry,) = cache.entries()
    assert (entry.folder.name, entry.kind, entry.source) == ("ab12", "rows", "shop:1, 30 rows")


def test_without_a_key_the_same_rows_are_kept_once_and_others_beside_them(folder: Path) -> None:
    first, same, other = (arrow.dataset(pages(count), "shop:1", "shop") for count in (3, 3, 2))
    assert first.cache_files == same.cache_files != other.cache_files
    assert (len(first), len(other)) == (30, 20)
    assert len(cache.entries()) == 2
    assert not [path for path in (folder / "shop").iterdir() if path.name.startswith(".")]


def test_an_entry_that_is_damaged_is_made_again(folder: Path) -> None:
    arrow.dataset(pages(3), "shop:1", "shop", key="ab12")
    (folder / "shop" / "ab12" / arrow.FILE).write_bytes(b"\xff\xff\xff\xff half")
    assert len(arrow.dataset(pages(3), "shop:1", "shop", key="ab12")) == 30
    assert len(arrow.dataset([], "shop:1", "shop", key="ab12")) == 30


def test_another_folder(tmp_path: Path, folder: Path) -> None:
    made = arrow.dataset(pages(1), "shop:1", tmp_path / "other", key="ab12")
    assert [entry["filename"] for entry in made.cache_files] == [str(tmp_path / "other" / "ab12" / arrow.FILE)]
    assert not folder.exists()


def test_a_little_is_kept_in_memory_and_more_on_disk() -> None:
    assert arrow.dataset(pages(3), "shop:1", "shop", memory_limit=100_000).cache_files == []
    more = arrow.dataset(pages(3000), "shop:1", "shop", memory_limit=100_000)
    assert more.cache_files
    assert (len(more), more[0]["question"], more[29_999]["question"]) == (30_000, "0?", "2999?")


@LIMITS
@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], '"shop:1" has no rows. Check the data'),
        ([[], []], '"shop:1" has no rows. Check the data'),
        (
            [[{"a": "x"}], [{"a": 1}]],
            'the column "a" of "shop:1" changes its type: it is text at first and a number further on. Mend a',
        ),
        ([[{"a": "x"}, {"a": 1}]], 'the column "a" of "shop:1" holds values of different types: '),
        ([[{"a": 10**30}]], 'the column "a" of "shop:1" holds a number that does not fit into 64 bits: '),
        ([[{"a": "\ud800"}]], 'the column "a" of "shop:1" holds half of a surrogate pair: '),
    ],
)
def test_what_is_no_table_is_one_line(limit: int, pieces: Any, message: str, folder: Path) -> None:
    with pytest.raises(DataError) as raised:
        arrow.dataset(pieces, "shop:1", "shop", memory_limit=limit, type_fix="Mend {column}")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert not folder.exists() or not list((folder / "shop").iterdir())


def test_an_error_of_the_source_is_its_own(folder: Path) -> None:
    def broken() -> Iterator[Any]:
        yield from pages(2)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        arrow.dataset(broken(), "shop:1", "shop")
    assert left(folder) == []


def test_a_cache_that_cannot_be_written(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(DataError) as raised:
        arrow.dataset(pages(1), "shop:1", "shop")
    assert str(raised.value).startswith(f'the rows of "shop:1" cannot be kept in {folder}/shop: Not a directory. Make')


def test_a_disk_that_is_full_is_one_line_and_nothing_is_left(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no larger file can be written
    try:
        with pytest.raises(DataError) as raised:
            arrow.dataset(pages(3000), "shop:1", "shop", disk_fix="Make room.")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(raised.value).startswith(f'the rows of "shop:1" cannot be kept in {folder}/shop: ')
    assert str(raised.value).endswith("File too large. Make room.")
    assert not list((folder / "shop").iterdir())


def test_a_killed_process_leaves_what_prune_knows(folder: Path) -> None:
    class Killed(BaseException):
        pass

    def killed() -> Iterator[Any]:
        yield from pages(2)
        (scratch,) = (folder / "shop").iterdir()
        names.append(scratch.name)
        raise Killed

    names: list[str] = []
    with pytest.raises(Killed):
        arrow.dataset(killed(), "shop:1", "shop")
    assert cache._UNFINISHED.fullmatch(names[0])


def test_one_piece_at_a_time_is_in_memory() -> None:
    text = "word " * 200
    held = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        made = arrow.dataset(([{"text": f"{page} {text}"}] * 100 for page in range(200)), "shop:1", "shop")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = made.data.nbytes
    assert size > 20_000_000
    assert peak < size / 10
    assert pa.total_allocated_bytes() - held < size / 10
    assert made[19_999]["text"].startswith("199 word")
