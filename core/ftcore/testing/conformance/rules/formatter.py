"""Rules for formatters: pure, deterministic, picklable, and clear about rows that they cannot read."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftcore.contracts import Conversation, DataView, Formatter
from ftcore.errors import FormatMismatch, FtcoreError
from ftcore.settings.data import DataSettings
from ftcore.testing.conformance.rule import Broken, raised, rule
from ftcore.testing.conformance.subject import Subject, where

Rows = list[dict[str, Any]]

_SHAPES: tuple[Rows, ...] = (
    [{"question": "How many?", "answer": "Two."}, {"question": "Wie viele?", "answer": "Zwei – „2“."}],
    [
        {"instruction": "Add.", "input": "1 and 1", "output": "2"},
        {"instruction": "Say hello.", "input": "", "output": "Hello."},
    ],
    [
        {"messages": [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Two."}]},
        {"messages": [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Three."}]},
    ],
    [{"prompt": "How many?", "completion": "Two."}, {"prompt": "And now?", "completion": "Three."}],
)
"""Rows to try a formatter with that was given none."""

_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Made:
    """A formatter, the rows that it reads, and the conversations that it makes of them."""

    formatter: Formatter
    rows: Rows
    conversations: list[Conversation]


@rule(
    "formatter-conversation",
    why="chat templates read a list of turns, each with a role and a text, and write nothing sensible of anything else",
    fix='return e.g. [Message(role="user", content=…), Message(role="assistant", content=…)]',
)
def conversation(subject: Subject) -> Iterator[str]:
    """It makes a conversation of each row: a list of turns with roles and texts, at least one of them the assistant's."""
    made = _made(subject)
    for number, turns in enumerate(made.conversations, start=1):
        if not isinstance(turns, list) or not turns:
            yield f"of row {number} it makes {_shown(turns)}, not a list of turns"
            continue
        for turn in turns:
            if not isinstance(turn, dict) or turn.get("role") not in _ROLES or not isinstance(turn.get("content"), str):
                yield f"a turn of row {number} is {_shown(turn)}, not a role ({', '.join(_ROLES)}) and a text"
        if not any(isinstance(turn, dict) and turn.get("role") == "assistant" for turn in turns):
            yield f"row {number} has no turn of the assistant, so nothing would be learned from it"


@rule(
    "formatter-pure",
    why="the rows belong to the dataset, and are formatted again for samples, messages and other epochs",
    fix="copy what you change: dict(row), list(row[…])",
)
def pure(subject: Subject) -> Iterator[str]:
    """It leaves the row as it was, and keeps nothing of it: changing what it returned changes no later answer."""
    made = _made(subject)
    for number, row in enumerate(made.rows, start=1):
        given = copy.deepcopy(row)
        turns = made.formatter(given)
        if given != row:
            changed = [key for key in row.keys() | given.keys() if row.get(key) != given.get(key)]
            yield f"it changes row {number}: {', '.join(sorted(changed))}"
        first = copy.deepcopy(turns)
        for turn in turns:
            turn["content"] = "changed by somebody else"
        if made.formatter(copy.deepcopy(row)) != first:
            yield f"it gave out its own list for row {number}: when that was changed, so was the next answer"


@rule(
    "formatter-deterministic",
    why="what is prepared is kept and compared; an evaluation would be of other texts each time",
    fix="no random choice, time, or counter; where variety is wanted, decide by the row's contents",
)
def deterministic(subject: Subject) -> Iterator[str]:
    """The same row always becomes the same conversation, whatever came before."""
    made = _made(subject)
    backwards = [made.formatter(copy.deepcopy(row)) for row in reversed(made.rows)][::-1]
    for number, (one, other) in enumerate(zip(made.conversations, backwards, strict=True), start=1):
        if one != other:
            yield f"row {number} became {_shown(one)}, and later {_shown(other)}"


@rule(
    "formatter-picklable",
    why="it travels to worker processes, which hash and import for themselves",
    fix="make it a function or a frozen dataclass at the top of a module; no lambda, no open file or connection; sort sets",
)
def picklable(subject: Subject) -> Iterator[str]:
    """Pickled and brought to another process, it makes the same conversations."""
    made = _made(subject)
    try:
        bundle = pickle.dumps((made.formatter, made.rows))
    except Exception as error:
        yield f"it cannot be pickled: {type(error).__name__}: {error}"
        return
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _ELSEWHERE],
        input=bundle,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "12345"},
        capture_output=True,
        timeout=120,
    )
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it ended the process"])[-1]
        yield f"in another process it fails: {last}"
    else:
        there = pickle.loads(done.stdout)  # noqa: S301 - what the process above has written
        for number, (here, other) in enumerate(zip(made.conversations, there, strict=True), start=1):
            if here != other:
                yield f"row {number} became {_shown(here)} here and {_shown(other)} in another process"


_ELSEWHERE = """
import pickle, sys
formatter, rows = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps([formatter(row) for row in rows]))
"""


@rule(
    "formatter-batches",
    why="rows come to it from Arrow tables, a batch at a time: their texts, lists and nulls must mean the same",
    fix="read cells by their value alone: no identity, no subclass of dict, no key that is only sometimes there",
)
def batches(subject: Subject) -> Iterator[str]:
    """Rows out of a batch of a dataset become the same conversations as the rows themselves."""
    made = _made(subject)
    from datasets import Dataset

    names = dict.fromkeys(name for row in made.rows for name in row)
    columns = Dataset.from_dict({name: [row.get(name) for row in made.rows] for name in names})[:]
    for number in range(len(made.rows)):
        cells = {name: column[number] for name, column in columns.items()}
        batched = made.formatter(cells)
        if batched != made.conversations[number]:
            yield f"row {number + 1} becomes {_shown(made.conversations[number])}, and {_shown(batched)} out of a batch"


@rule(
    "formatter-refuses-rows",
    why="a ValueError is a bad row, which the audit counts and reports by its number; anything else ends the run",
    fix="check each cell: raise ValueError with the column and what is wrong with it",
)
def refuses_rows(subject: Subject) -> Iterator[str]:
    """A row that it cannot read (a null, a number, a list, where a text should be) raises ValueError."""
    made = _made(subject)
    for column in made.rows[0]:
        for cell in (None, 7, ["a", "list"], {"a": "struct"}):
            row = {**copy.deepcopy(made.rows[0]), column: cell}
            try:
                made.formatter(row)
            except ValueError as error:
                if not str(error).strip():
                    yield f"with {column} = {cell!r} it raised a ValueError that does not say why"
            except Exception as error:
                yield f"with {column} = {cell!r} {raised(error)}, not ValueError"


@rule(
    "formatter-refuses-columns",
    why="data with other columns are a mistake of the configuration, which deserves an answer with the columns' names",
    fix="raise FormatMismatch where a column that is needed is not in data.columns",
)
def refuses_columns(subject: Subject) -> Iterator[str]:
    """With columns that it does not know, it raises FormatMismatch, or makes a formatter that reads them."""
    made = _made(subject)
    row = {"ftcore_unknown": "a text", "ftcore_other": "a text"}
    try:
        formatter = _make(subject, [row])
    except FormatMismatch:
        return
    except FtcoreError as error:
        yield f"for unknown columns it raised {type(error).__name__}, not FormatMismatch"
    except Exception as error:
        yield f"for unknown columns {raised(error)}, not FormatMismatch"
    else:
        try:
            formatter(row)
        except Exception as error:
            first = ", ".join(made.rows[0])
            yield f"it takes columns that it does not know (it reads {first}), and then {raised(error)} for every row"


def _made(subject: Subject) -> Made:
    """The plugin's formatter for rows that it reads.

    Raises:
        Broken: it reads none of ours, and was given none.
    """
    assert subject.record
    shapes = (_given(subject),) if subject.setup.rows else _SHAPES
    refusals = []
    for rows in shapes:
        try:
            formatter = _make(subject, rows)
        except FormatMismatch as error:
            refusals.append(str(error))
            continue
        return Made(formatter, rows, [formatter(copy.deepcopy(row)) for row in rows])
    raise Broken(f"it reads none of our rows ({refusals[-1]}): give it some, as `rows`, in {where(subject.name)}")


def _given(subject: Subject) -> Rows:
    return [dict(row) for row in subject.setup.rows]


def _make(subject: Subject, rows: Rows) -> Formatter:
    config = subject.config("formatter")
    columns: Mapping[str, None] = dict.fromkeys(key for row in rows for key in row)
    view = DataView(list(columns), config.fine_tuner.view(DataSettings), copy.deepcopy(rows[:8]))
    settings = config.section(subject.name)
    formatter: Formatter = subject.expect(Formatter, "ftcore_make_formatter", data=view, settings=settings)
    return formatter


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
