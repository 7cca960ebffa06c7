"""What is counted in prepared data, compared with counting by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcore.contracts import IGNORED, Prepared
from ftcore.statistics import SHOWN_ROWS, Finding, Split, Statistics, Twins, statistics
from ftcore.statistics import columns as columns_module
from ftcore.testing.models import CHATML, tiny_tokenizer
from ftcore.turns import Ends, ends_of

datasets = pytest.importorskip("datasets", reason="prepared data are a datasets.Dataset")

TOKENIZER = tiny_tokenizer()
PAD, START, END = 0, 1, 2
NEWLINE = TOKENIZER("\n")["input_ids"][0]
X, Y = 100, 101  # any words


@dataclass(frozen=True)
class Batches:
    """As much of `[fine_tuner]` as is read."""

    max_sequence_length: int = 16
    device_train_batch_size: int = 2
    grad_accumulation: int = 3
    epochs: int | float = 2


def dataset(rows: list[tuple[list[int], list[int]]], **more: list[int]) -> Any:
    """Rows as (tokens, which of them are supervised); more columns as they are."""
    ids = [row for row, _ in rows]
    labels = [
        [token if at in chosen else IGNORED for at, token in enumerate(row)]
        for row, chosen in ((row, set(chosen)) for row, chosen in rows)
    ]
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels, **more})


def counted(rows: list[tuple[list[int], list[int]]], tokenizer: Any = TOKENIZER, **more: list[int]) -> Split:
    return statistics(Prepared(dataset(rows, **more), None), tokenizer, Batches()).training


TURN = [START, X, END, NEWLINE]


def test_tokens_and_what_is_learned_of_them() -> None:
    found = counted([([START, X, Y, END], [2, 3]), ([X, X], []), ([X], [0]), ([], [])])
    assert (found.rows, found.tokens, found.supervised) == (4, 7, 3)
    assert found.supervised_share == 3 / 7
    assert found.unsupervised == Finding(2, (1, 3))
    assert (found.lengths.shortest, found.lengths.median, found.lengths.longest) == (0, 1, 4)


def test_nothing_at_all() -> None:
    empty = datasets.Dataset.from_dict(
        {"input_ids": [], "labels": []},
        features=datasets.Features({name: datasets.List(datasets.Value("int32")) for name in ("input_ids", "labels")}),
    )
    found = statistics(Prepared(empty, empty), TOKENIZER, Batches())
    assert (found.training, found.validation) == (Split(), Split())
    assert (found.steps_per_epoch, found.padding, found.overlap) == (0, 0.0, Twins())


@pytest.mark.parametrize(
    ("row", "chosen", "ends"),
    [
        pytest.param([START, X, END, NEWLINE], [1, 2], True, id="the answer and its end"),
        pytest.param([START, X, END, NEWLINE], [0, 1, 2, 3], True, id="all of it, a line break last"),
        pytest.param([START, X, END], [1], False, id="the end is there and not learned"),
        pytest.param([START, X, Y], [1, 2], False, id="no end"),
        pytest.param([*TURN, START, X, Y], [1, 2, 5, 6], False, id="only an earlier answer ends"),
        pytest.param([X, END, Y], [0, 1, 2], False, id="a word behind the end"),
        pytest.param([END], [0], True, id="nothing but the end"),
        pytest.param([NEWLINE], [0], False, id="nothing but a line break"),
    ],
)
def test_an_answer_ends_where_its_last_learned_token_ends_the_turn(
    row: list[int], chosen: list[int], ends: bool
) -> None:
    # Neighbours on both sides: what one row has must not count for another.
    found = counted([([START, X, END], [1, 2]), (row, chosen), ([X, X], [0]), (row, chosen)])
    assert found.unended.rows == ((2,) if ends else (1, 2, 3))
    assert found.ended == 1 + 2 * (END in [row[at] for at in chosen])


def test_begin_tokens_are_doubled_only_in_front() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    rows = [([START, START, X], [2]), ([START, X, START, START], [1]), ([START], [0]), ([START] * 4, [3]), ([], [])]
    assert counted(rows, tokenizer).double_bos == Finding(2, (0, 3))
    assert counted(rows).double_bos == Finding()  # a tokenizer that has no such token


def test_equal_rows_are_counted_once_each_and_named() -> None:
    rows = [([X, Y], [0]), ([Y, X], [0]), ([X, Y], [1]), ([X], [0]), ([X, Y], [0])]
    assert counted(rows).duplicates == Twins(2, ((2, 0), (4, 0)))


def test_validation_rows_that_are_trained_on_are_named() -> None:
    train = dataset([([X], [0]), ([Y], [0]), ([X, Y], [0])], row=[0, 4, 7])
    held_out = dataset([([Y, X], [0]), ([X, Y], [0]), ([X], [0]), ([X], [0])], row=[1, 2, 3, 5])
    found = statistics(Prepared(train, held_out), TOKENIZER, Batches())
    assert found.overlap == Twins(3, ((2, 7), (3, 0), (5, 0)))
    assert found.validation is not None
    assert found.validation.duplicates == Twins(1, ((5, 3),))


def test_rows_have_the_numbers_of_the_users_data() -> None:
    found = counted([([X], []), ([X, Y], [0]), ([Y], [])], row=[3, 5, 9])
    assert found.unsupervised.rows == (3, 9)


def test_cut_rows_lose_the_answer_or_all_of_it() -> None:
    found = counted(
        [([X, Y], [1]), ([X, Y], [1]), ([X, X], []), ([Y, END], [0, 1])],
        lost=[0, 3, 9, 1],
        lost_supervised=[0, 2, 4, 0],
    )
    assert found.truncated == Finding(3, (1, 2, 3))
    assert (found.lost_tokens, found.lost_supervised) == (13, 6)
    assert found.cut_answers == Finding(1, (1,))
    assert found.cut_prompts == Finding(1, (2,))
    assert found.unended == Finding(1, (0,))  # cut rows have no end, for a reason that is counted already


def test_a_trainer_that_keeps_no_row_numbers_is_believed() -> None:
    facts = {"truncated_rows": 2, "lost_tokens": 8, "lost_supervised_tokens": 5, "bad_rows": 1}
    found = statistics(Prepared(dataset([([X], [0])] * 3), None, facts=facts), TOKENIZER, Batches())
    assert (found.training.truncated, found.training.lost_tokens, found.training.lost_supervised) == (Finding(2), 8, 5)
    assert found.skipped == 1


def test_a_finding_names_a_few_rows_and_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "_ROWS", 3)  # several chunks
    found = counted([([X, number], []) for number in range(200, 220)])
    assert found.unsupervised == Finding(20, tuple(range(SHOWN_ROWS)))


def test_steps_packing_and_padding() -> None:
    lengths = [3, 9, 16, 1, 8]
    train = dataset([([X] * length, [0]) for length in lengths])
    plain = statistics(Prepared(train, None), TOKENIZER, Batches(epochs=1.5))
    assert (plain.steps_per_epoch, plain.steps) == (1, 2)  # 5 rows, 3 batches, 3 to a step
    assert plain.padding == 1 - 37 / (2 * 16 + 2 * 16 + 8)
    assert (plain.packed_rows, plain.packing_efficiency) == (None, None)

    ordered = statistics(Prepared(train, None, order=lambda: [2, 1, 4, 0, 3]), TOKENIZER, Batches())
    assert ordered.padding == 1 - 37 / (2 * 16 + 2 * 8 + 8)

    packed = dataset([([X] * 16, [0]), ([X] * 12, [0]), ([X] * 9, [0])])
    both = statistics(Prepared(packed, None, examples=train), TOKENIZER, Batches(grad_accumulation=1))
    assert (both.packed_rows, both.packing_efficiency) == (3, 37 / 48)
    assert (both.training.rows, both.steps_per_epoch, both.steps) == (5, 2, 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60), st.integers(1, 50))
def test_the_histogram_holds_every_row_once(lengths: list[int], stretch: int) -> None:
    found = counted([([X] * (length // stretch), []) for length in lengths]).lengths
    sizes = [length // stretch for length in lengths]
    assert len(found.histogram) <= 16
    assert sum(bar.rows for bar in found.histogram) == len(sizes)
    for bar, following in zip(found.histogram, found.histogram[1:], strict=False):
        assert following.first == bar.last + 1
    for bar in found.histogram:
        assert bar.rows == sum(bar.first <= size <= bar.last for size in sizes)
    assert found.shortest == min(sizes) <= found.median <= found.p95 <= found.longest == max(sizes)
    assert found.histogram[0].rows > 0 < found.histogram[-1].rows


ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from([START, END, NEWLINE, X, Y]), st.booleans()), max_size=5), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 7))
def test_counting_chunks_is_counting_rows(rows: list[list[tuple[int, bool]]], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "_ROWS", chunk)
        found = counted([([token for token, _ in row], [at for at, (_, on) in enumerate(row) if on]) for row in rows])
    learned = [[token for token, on in row if on] for row in rows]
    open_ended = [
        number
        for number, tokens in enumerate(learned)
        if tokens and not (tokens[-1] == END or tokens[-2:] == [END, NEWLINE])
    ]
    seen = Counter(tuple(token for token, _ in row) for row in rows)
    assert found.tokens == sum(map(len, rows))
    assert found.supervised == sum(map(len, learned))
    assert found.unsupervised.count == sum(not tokens for tokens in learned)
    assert found.ended == sum(END in tokens for tokens in learned)
    assert (found.unended.count, found.unended.rows) == (len(open_ended), tuple(open_ended[:SHOWN_ROWS]))
    assert found.duplicates.count == len(rows) - len(seen)


def test_all_of_it_can_be_written_as_json() -> None:
    import json

    found: Statistics = statistics(Prepared(dataset([([X], [])]), None), TOKENIZER, Batches())
    assert json.loads(json.dumps(found.as_dict()))["training"]["unsupervised"] == {"count": 1, "rows": [0]}


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        pytest.param(CHATML, Ends(END, END), id="the end of a turn is the EOS"),
        pytest.param(CHATML.replace("im_end", "endoftext"), Ends(END, PAD), id="it is another token"),
        pytest.param(CHATML.replace("<|im_end|>", ""), Ends(END, None), id="turns end with a line break"),
    ],
)
def test_what_ends_an_answer_is_read_off_the_template(template: str, ends: Ends) -> None:
    assert ends_of(tiny_tokenizer(template)) == ends
