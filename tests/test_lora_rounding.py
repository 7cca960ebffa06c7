"""The benchmark behind docs/rounding.md runs, goes on where it was stopped, and the page says what was measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "lora_rounding.py"
RESULTS = ROOT / "benchmarks" / "results" / "lora_rounding.json"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from rounding import page  # type: ignore[import-not-found]

    return page


def test_it_runs_and_goes_on_where_it_was_stopped(tmp_path: Path, page: Any) -> None:
    pytest.importorskip("peft", reason="training needs the extra [train]")
    pytest.importorskip("matplotlib")
    file = tmp_path / "results.json"
    first = run("--quick", "--out", str(file))
    assert first.returncode == 0, first.stderr
    known = json.loads(file.read_text(encoding="utf-8"))
    (cell,), (course,) = known["cells"], known["course"]
    losses = cell["losses"]
    assert losses["fp32"] < losses["base"]
    assert set(losses) == set(page.NAMES)
    for form in ("once", "stochastic"):
        assert abs(losses[form] - losses["fp32"]) < 0.005
    assert list(course["steps"]) == ["1", "2"]

    known["cells"][0]["losses"]["base"] = 9.0  # a mark: what is there is not measured again
    del known["course"]
    file.write_text(json.dumps(known), encoding="utf-8")
    second = run("--quick", "--out", str(file))
    assert second.returncode == 0, second.stderr
    again = json.loads(file.read_text(encoding="utf-8"))
    assert again["cells"][0]["losses"]["base"] == 9.0
    assert again["course"][0]["steps"].keys() == course["steps"].keys()

    written = tmp_path / "page.md"
    written.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write_page(file, written, tmp_path / "plots")
    text = written.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert f"| 4 | 0.001 | 9.0000 | {losses['fp32']:.4f} |" in text
    for name in ("rounding-kept", "rounding-course"):
        assert (tmp_path / "plots" / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_quick_results_do_not_stand_among_the_others() -> None:
    done = run("--quick")
    assert done.returncode == 2
    assert "give --out" in done.stderr


def test_the_page_says_what_was_measured(page: Any) -> None:
    if not RESULTS.exists():
        pytest.skip("nothing has been measured yet")
    text = (ROOT / "docs" / "rounding.md").read_text(encoding="utf-8")
    found = re.search(rf"{page.BEGIN}\n\n(.*)\n\n{page.END}", text, re.DOTALL)
    assert found
    assert found[1] == page.measured(json.loads(RESULTS.read_text(encoding="utf-8")))
