"""A fingerprint follows the rows, and nothing else."""

from __future__ import annotations

import pytest

from ftcore.fingerprint import fingerprint

datasets = pytest.importorskip("datasets")

ROWS = [{"question": f"q{number}", "answer": f"a{number % 7}" * (number % 5)} for number in range(25_000)]


def test_the_same_rows_have_the_same_fingerprint() -> None:
    whole = datasets.Dataset.from_list(ROWS)
    parts = datasets.concatenate_datasets([datasets.Dataset.from_list(ROWS[:7]), datasets.Dataset.from_list(ROWS[7:])])
    selected = datasets.Dataset.from_list([ROWS[3], *ROWS]).select(range(1, len(ROWS) + 1))
    assert fingerprint(whole) == fingerprint(parts) == fingerprint(selected)
    assert len(fingerprint(whole)) == 16


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param([*ROWS[:-1], {**ROWS[-1], "answer": "other"}], id="a cell"),
        pytest.param([ROWS[1], ROWS[0], *ROWS[2:]], id="the order"),
        pytest.param(ROWS[:-1], id="a row less"),
        pytest.param([{"question": row["question"], "reply": row["answer"]} for row in ROWS], id="a column's name"),
        pytest.param([{**row, "answer": row["answer"] or None} for row in ROWS], id="null instead of empty"),
    ],
)
def test_any_change_changes_it(changed: list[dict[str, str | None]]) -> None:
    assert fingerprint(datasets.Dataset.from_list(changed)) != fingerprint(datasets.Dataset.from_list(ROWS))
