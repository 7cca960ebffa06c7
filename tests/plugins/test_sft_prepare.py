"""From rows to tokens: counting, cutting, several processes, packing, batches, order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sft_parts import STYLES, Given, conversation, rows_of

from ftcore.errors import DataError, PluginError
from ftcore_formats.qa import QaFormatter
from ftcore_sft.collate import Collator
from ftcore_sft.labels import IGNORED
from ftcore_sft.markers import derived_markers
from ftcore_sft.packing import bins, pack
from ftcore_sft.prepare import Recipe, prepare, worth_processes

pytest.importorskip("transformers", reason="training needs the extra [train]")

TOKENIZER = STYLES["chatml"].tokenizer


def recipe(max_length: int = 10_000, **changes: Any) -> Recipe:
    values = {"formatter": Given(), "tokenizer": TOKENIZER, "markers": derived_markers(TOKENIZER)} | changes
    return Recipe(**values, max_length=max_length)


def some_rows(count: int) -> Any:
    return rows_of([conversation("q" * number, "a" * (count - number)) for number in range(count)])


def test_cut_examples_and_tokens_are_counted() -> None:
    whole, before = prepare(some_rows(40), recipe(), 1)
    cut, tally = prepare(some_rows(40), recipe(max_length=50), 1)
    lengths = [len(row["input_ids"]) for row in whole]
    lost = [row["labels"][50:] for row in whole]
    assert (before.rows, before.truncated_rows, before.lost_tokens) == (40, 0, 0)
    assert tally.truncated_rows == sum(length > 50 for length in lengths) > 0
    assert tally.lost_tokens == sum(map(len, lost))
    assert tally.lost_supervised_tokens == sum(label != IGNORED for labels in lost for label in labels)
    assert tally.longest_untruncated == max(lengths)
    for short, long in zip(cut, whole, strict=True):
        for key in ("input_ids", "labels"):
            assert short[key] == long[key][:50]
        assert short["lost"] == len(long["labels"][50:])
        assert short["lost_supervised"] == sum(label != IGNORED for label in long["labels"][50:])


def test_bad_rows_are_skipped_counted_and_named() -> None:
    rows = rows_of([conversation("q", "a") if number % 3 else [] for number in range(20)])
    dataset, tally = prepare(rows, recipe(), 1)
    assert (len(dataset), tally.rows, tally.bad_rows) == (13, 20, 7)
    assert tally.bad == [(number, "no turns") for number in (0, 3, 6, 9, 12)]
    assert dataset["row"][:] == [number for number in range(20) if number % 3]


def test_only_bad_rows_leave_an_empty_dataset() -> None:
    dataset, tally = prepare(rows_of([[], []]), recipe(), 1)
    assert (len(dataset), tally.bad_rows) == (0, 2)
    assert dataset.column_names == ["input_ids", "labels", "row", "lost", "lost_supervised"]


class Broken:
    """A formatter with a mistake: what it returns is no conversation, or it trips over the row."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, row: Mapping[str, Any]) -> Any:
        return row["nothing"] if self.answer is None else self.answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "KeyError: 'nothing'; the row's columns are turns"),
        ("a text", "it returned a str, not a list of turns"),
        (["a text"], "it returned a list, not a list of turns"),
        ((), "it returned a tuple, not a list of turns"),
    ],
)
def test_a_mistake_in_a_formatter_names_the_formatter(answer: Any, why: str) -> None:
    with pytest.raises(PluginError) as caught:
        prepare(some_rows(2), recipe(formatter=Broken(answer)), 1)
    assert str(caught.value).startswith(f"the formatter {__name__}.Broken failed in row 0: {why}. A formatter gives")


@pytest.mark.parametrize("error", [MemoryError(), DataError("the dictionary is gone")])
def test_what_a_formatter_raises_on_purpose_passes(error: Exception) -> None:
    def fails(row: Mapping[str, Any]) -> Any:
        raise error

    with pytest.raises(type(error)) as caught:
        prepare(some_rows(2), recipe(formatter=fails), 1)
    assert caught.value is error


def test_several_processes_prepare_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    rows = Dataset.from_list(
        [{"question": f"Number {number}?", "answer": f"{number}!" if number % 900 else ""} for number in range(2500)]
    )
    formatter = QaFormatter("question", "answer")
    one, alone = prepare(rows, recipe(formatter=formatter), 1)
    monkeypatch.setattr("ftcore_sft.prepare.worth_processes", lambda rows, num_proc: num_proc)
    two, together = prepare(rows, recipe(formatter=formatter), 2)
    assert alone == together
    assert [number for number, _ in together.bad] == [0, 900, 1800]
    assert one.data.table.equals(two.data.table)


def test_never_more_processes_than_cores_or_than_the_data_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert [worth_processes(rows, 4) for rows in (0, 19_999, 40_000, 10**6)] == [1, 1, 2, 4]
    assert worth_processes(10**9, 64) == 6


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(64, 100))
def test_bins_hold_every_example_once_and_never_overflow(lengths: list[int], capacity: int) -> None:
    packed = bins(lengths, capacity)
    assert sorted(example for members in packed for example in members) == list(range(len(lengths)))
    assert all(sum(lengths[example] for example in members) <= capacity for members in packed)
    if lengths:  # best-fit decreasing needs at most 11/9 of the best number of bins and 4 more
        assert len(packed) <= 11 / 9 * -(-sum(lengths) // capacity) * 2 + 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=30), st.booleans())
def test_packing_loses_no_token(sizes: list[tuple[int, int]], everything: bool) -> None:
    rows = rows_of([conversation("q" * question, "a" * answer) for question, answer in sizes])
    dataset, _ = prepare(rows, recipe(markers=None) if everything else recipe(), 1)
    packed = pack(dataset, 128)
    examples = []
    for row in packed:
        assert len(row["input_ids"]) == len(row["labels"]) == len(row["position_ids"]) <= 128
        starts = [index for index, position in enumerate(row["position_ids"]) if position == 0]
        for start, end in zip(starts, [*starts[1:], len(row["input_ids"])], strict=True):
            assert row["position_ids"][start:end] == list(range(end - start))
            assert row["labels"][start] == IGNORED
            examples.append((tuple(row["input_ids"][start:end]), tuple(row["labels"][start:end])))
    before = Counter((tuple(row["input_ids"]), (IGNORED, *row["labels"][1:])) for row in dataset)
    assert Counter(examples) == before


def test_a_batch_is_padded_on_the_right_to_a_multiple_of_eight() -> None:
    collator = Collator(pad_token_id=7)
    batch = collator([{"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]}, {"input_ids": [4] * 9, "labels": [4] * 9}])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (2, 16)
    assert batch["input_ids"][0].tolist() == [1, 2, 3] + [7] * 13
    assert batch["labels"][0].tolist() == [IGNORED, 2, 3] + [IGNORED] * 13
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 9]


PACKED: list[Mapping[str, list[int]]] = [
    {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3], "position_ids": [0, 1, 0]},
    {"input_ids": [4, 5], "labels": [IGNORED, 5], "position_ids": [0, 1]},
]


def test_a_packed_batch_has_positions_and_no_mask() -> None:
    batch = Collator(pad_token_id=7)(PACKED)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["position_ids"].tolist() == [[0, 1, 0, 0, 1, 2, 3, 4], [0, 1, 0, 1, 2, 3, 4, 5]]
    assert batch["labels"][:, 3:].unique().tolist() == [IGNORED]


def test_a_flat_packed_batch_is_one_row_without_padding() -> None:
    batch = Collator(pad_token_id=7, flatten=True)(PACKED)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 0, 1]]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 99))
def test_every_epoch_has_every_example_once(lengths: list[int], batch_size: int, seed: int) -> None:
    from ftcore_sft.sampler import LengthGroupedSampler

    sampler, same = (LengthGroupedSampler(lengths, batch_size, seed) for _ in range(2))
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        same.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(len(lengths)))
        assert order == list(same) == list(sampler) == sorted_by_hand(lengths, batch_size, seed + epoch)
    assert len(sampler) == len(lengths)


def sorted_by_hand(lengths: list[int], batch_size: int, seed: int) -> list[int]:
    """Shuffled, sorted within windows of 16 batches, and the batches shuffled, a short one last."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    window = 16 * batch_size
    for start in range(0, len(order), window):
        order[start : start + window] = sorted(order[start : start + window], key=lambda row: lengths[row])
    whole = len(order) // batch_size
    batches = [order[at * batch_size : (at + 1) * batch_size] for at in range(whole)]
    shuffled = torch.randperm(whole, generator=generator).tolist()
    return [row for at in shuffled for row in batches[at]] + order[whole * batch_size :]


def test_epochs_and_seeds_differ_and_neighbours_have_similar_lengths() -> None:
    from ftcore_sft.sampler import LengthGroupedSampler

    lengths = [(number * 37) % 400 + 1 for number in range(800)]
    sampler, other = LengthGroupedSampler(lengths, 8, 0), LengthGroupedSampler(lengths, 8, 1)
    first = list(sampler)
    assert first != list(other)
    sampler.set_epoch(1)
    assert first != list(sampler)
    padded = sum(8 * max(lengths[index] for index in first[at : at + 8]) for at in range(0, 800, 8))
    assert padded < 1.1 * sum(lengths)
    assert first[:8] != sorted(range(800), key=lambda index: -lengths[index])[:8]
