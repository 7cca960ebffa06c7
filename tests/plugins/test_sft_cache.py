"""Prepared data are kept under a key that changes with everything that decides the outcome."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import Conversation

datasets = pytest.importorskip("datasets")

from ftcore.testing.models import CHATML, tiny_tokenizer  # noqa: E402
from ftcore_sft import cache  # noqa: E402
from ftcore_sft.markers import derived_markers  # noqa: E402
from ftcore_sft.prepare import Recipe  # noqa: E402

ROWS = [{"question": f"How many {number}?", "answer": f"{number} apples."} for number in range(40)]


@dataclass(frozen=True)
class Formatter:
    """A formatter with one setting."""

    system: str = "Be short."

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        if row["answer"] == "":
            raise ValueError("answer is empty")
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]


class Namesake(Formatter):
    """Does the same under another name."""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    tokenizer = tiny_tokenizer()
    return Recipe(Formatter(), tokenizer, derived_markers(tokenizer), 64)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path))
    return tmp_path / "prepared"


def prepared(recipe: Recipe, rows: list[dict[str, str]] = ROWS) -> tuple[list[Any], dict[str, int], list[Any]]:
    data, tally = cache.cached(datasets.Dataset.from_list(rows), recipe, 1)
    return data.to_list(), tally.counts(), tally.bad


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_second_time_nothing_is_prepared(recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*ROWS, {"question": "And this?", "answer": ""}]
    first = prepared(recipe, rows)
    assert first[1]["bad_rows"] == 1
    assert first[2] == [(40, "answer is empty")]
    monkeypatch.setattr(cache, "prepare", None)  # to call it would be an error
    assert prepared(recipe, rows) == first
    assert len(entries(folder)) == 1


def test_packed_rows_lie_beside_the_prepared_ones(recipe: Recipe, folder: Path) -> None:
    rows = datasets.Dataset.from_list(ROWS)
    kept, unkept = cache.cached(rows, recipe, 1)[0], cache.prepare(rows, recipe, 1)[0]
    first, again, wider = (cache.packed(kept, capacity) for capacity in (64, 64, 128))
    assert first.cache_files == again.cache_files
    assert {Path(made.cache_files[0]["filename"]).parents[1] for made in (first, wider)} == {folder.parent / "packed"}
    assert len(first) > len(wider)
    in_memory = cache.packed(unkept, 64)
    assert (in_memory.cache_files, in_memory.to_list()) == ([], first.to_list())
    assert in_memory.features == first.features
    (folder.parent / "packed").rename(folder.parent / "gone")
    (folder.parent / "packed").write_text("no folder")
    assert cache.packed(kept, 64).to_list() == first.to_list()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda recipe: (recipe, [*ROWS[:-1], {**ROWS[-1], "answer": "None."}]), id="the rows"),
        pytest.param(lambda recipe: (replace(recipe, formatter=Formatter("Be long.")), ROWS), id="its settings"),
        pytest.param(lambda recipe: (replace(recipe, formatter=Namesake()), ROWS), id="its name"),
        pytest.param(lambda recipe: (replace(recipe, max_length=32), ROWS), id="the longest length"),
        pytest.param(lambda recipe: (replace(recipe, markers=None), ROWS), id="the markers"),
        pytest.param(
            lambda recipe: (replace(recipe, tokenizer=tiny_tokenizer(CHATML.replace("\n'", " \n'"))), ROWS),
            id="the template",
        ),
        pytest.param(
            lambda recipe: (
                replace(recipe, tokenizer=tiny_tokenizer(special_tokens=("<pad>", "<|im_start|>", "<|im_end|>"))),
                ROWS,
            ),
            id="the tokenizer",
        ),
    ],
)
def test_a_change_is_noticed(changed: Any, recipe: Recipe, folder: Path) -> None:
    prepared(recipe)
    before = entries(folder)
    prepared(*changed(recipe))
    assert len(entries(folder) - before) == 1


def test_a_change_of_the_preparing_code_is_noticed(
    recipe: Recipe, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(recipe)
    copy = shutil.copytree(Path(cache.__file__).parent, tmp_path / "copy")
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    prepared(recipe)
    assert len(entries(folder)) == 1  # it is the code that counts, not its place
    with (copy / "prepare.py").open("a") as file:
        file.write("\n# changed\n")
    prepared(recipe)
    assert len(entries(folder)) == 2
    monkeypatch.setattr(cache, "__version__", "another")
    prepared(recipe)
    assert len(entries(folder)) == 3


def test_a_change_of_the_formatters_code_is_noticed(
    recipe: Recipe, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    package = tmp_path / "changing"
    package.mkdir()
    (package / "__init__.py").write_text("from changing.rows import conversation\n")
    (package / "words.py").write_text("WORD = 'one'\n")
    (package / "rows.py").write_text(
        "from changing.words import WORD\n"
        "def conversation(row):\n"
        "    return [{'role': 'user', 'content': WORD}, {'role': 'assistant', 'content': row['answer']}]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        formatter = importlib.import_module("changing").conversation
        first = prepared(replace(recipe, formatter=formatter))
        (package / "words.py").write_text("WORD = 'two, in a module that the formatter imports'\n")
        for name in [name for name in sys.modules if name.partition(".")[0] == "changing"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        second = prepared(replace(recipe, formatter=importlib.import_module("changing").conversation))
        assert first != second
        assert len(entries(folder)) == 2
        (package / "words.txt").write_text("which the formatter may read")
        prepared(replace(recipe, formatter=importlib.import_module("changing").conversation))
        assert len(entries(folder)) == 3
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "changing"]:
            del sys.modules[name]


@pytest.mark.parametrize("damage", ["truncated", "junk", "no facts", "half a fact"])
def test_a_damaged_entry_is_made_again(damage: str, recipe: Recipe, folder: Path) -> None:
    first = prepared(recipe)
    (entry,) = folder.iterdir()
    data, facts = entry / "data.arrow", entry / "found.json"
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:-100])
    elif damage == "junk":
        data.write_bytes(b"x" * data.stat().st_size)
    elif damage == "no facts":
        facts.unlink()
    else:
        facts.write_text(facts.read_text()[:10])
    assert prepared(recipe) == first
    assert prepared(recipe) == first
    assert len(entries(folder)) == 1


def test_two_at_once_do_not_disturb_each_other(recipe: Recipe, folder: Path) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(prepared(recipe))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(result == results[0] for result in results)
    assert len(entries(folder)) == 1


PROCESS = """
import json, sys, time
from pathlib import Path
from datasets import Dataset
from transformers import AutoTokenizer
from ftcore_formats.qa import QaFormatter
from ftcore_sft.cache import cached
from ftcore_sft.markers import derived_markers
from ftcore_sft.prepare import Recipe

folder, own = Path(sys.argv[1]), Path(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
rows = Dataset.from_dict({"question": [f"How many {n}?" for n in range(2000)], "answer": ["Some."] * 2000})
recipe = Recipe(QaFormatter("question", "answer"), tokenizer, derived_markers(tokenizer), 64)
own.touch()
while not (folder / "go").exists():
    time.sleep(0.001)
data, tally = cached(rows, recipe, 1)
own.write_text(json.dumps([len(data), data._fingerprint, sum(map(sum, data["input_ids"])), tally.rows]))
"""


def test_two_runs_at_once_leave_one_whole_entry(tmp_path: Path, folder: Path) -> None:
    shared = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(shared)
    results = [tmp_path / "one", tmp_path / "two"]
    commands = [[sys.executable, "-c", PROCESS, str(shared), str(result)] for result in results]
    runs = [subprocess.Popen(command, env={**os.environ, "FTCORE_CACHE": str(tmp_path)}) for command in commands]
    while not all(result.exists() for result in results):
        assert all(run.poll() is None for run in runs)
        time.sleep(0.01)
    (shared / "go").touch()
    assert [run.wait(120) for run in runs] == [0, 0]
    one, two = (json.loads(result.read_text()) for result in results)
    assert one[0] == one[3] == 2000
    assert one[2:] == two[2:]
    (entry,) = folder.iterdir()
    data, tally = cache._read(entry) or (None, None)
    assert data is not None
    assert tally is not None
    assert (len(data), tally.rows, sum(map(sum, data["input_ids"]))) == (2000, 2000, one[2])


def test_a_few_rows_are_not_worth_an_entry(recipe: Recipe, folder: Path) -> None:
    prepared(recipe, ROWS[:3])
    assert not folder.exists()
    assert len(prepared(recipe)[0]) == 40
    assert folder.exists()


def test_an_entry_says_what_it_is_of(recipe: Recipe, folder: Path) -> None:
    from ftcore.cache import entries as listed

    cache.cached(datasets.Dataset.from_list(ROWS), recipe, 1, "train.jsonl")
    (entry,) = listed()
    assert entry.kind == "prepared data"
    assert entry.source.startswith("train.jsonl, 40 rows, by test_sft_cache.Formatter and ")
    os.utime(entry.folder / "about.json", (0, 0))
    cache.cached(datasets.Dataset.from_list(ROWS), recipe, 1, "train.jsonl")
    assert listed()[0].used_at > 0


def test_a_formatter_without_an_identity_is_not_cached(recipe: Recipe, folder: Path) -> None:
    class Local(Formatter):
        """Cannot be pickled, as it has no name to be found by."""

    assert prepared(replace(recipe, formatter=Local())) == prepared(recipe)
    assert len(entries(folder)) == 1


def test_a_cache_that_cannot_be_written_stops_nothing(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepared(recipe)
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "a file"))
    assert prepared(recipe) == expected
