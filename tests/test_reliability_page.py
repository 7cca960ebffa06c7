"""Each fault on the page is shown by a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent


def test_the_tests_that_the_page_names_are_there() -> None:
    page = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 15
    for path, test in named:
        assert f"def {test}(" in (PROJECT / path).read_text(encoding="utf-8"), f"{path} has no {test}"


def test_every_row_names_a_test() -> None:
    page = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tables = re.findall(r"\| fault \|.*?(?=\n\n|\Z)", page, flags=re.DOTALL)
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert rows
    assert [row for row in rows if "::test_" not in row] == []
