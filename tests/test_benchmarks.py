"""The benchmarks run, from the command line to the page; what they measure here means nothing."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RUN = ROOT / "benchmarks" / "run.py"
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train_2k.jsonl"


def run(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, str(RUN), *arguments], capture_output=True, text=True)


def test_help_names_the_items() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "training,rounding,preparation,command,startup,scaling" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "trainin", "--quick", "--out", "x"], "there is no trainin"),
        (["--quick"], "give --out"),
    ],
)
def test_command_line_is_checked(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_ratios_are_taken_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from suite.numbers import ratios, spread  # type: ignore[import-not-found]

    # The second round is ten times slower for both: a ratio of medians would say something else.
    samples = [
        {"contestant": name, "round": number, "seconds": seconds}
        for name, all_seconds in (("a", (1.0, 30.0, 2.0)), ("b", (2.0, 20.0, 4.0)))
        for number, seconds in enumerate(all_seconds, start=1)
    ]
    found = ratios(samples, "seconds", "a", "b")
    assert found == [0.5, 1.5, 0.5]
    assert spread(found) == "0.50 (0.50–1.50)"


def test_rounds_are_added_to_those_of_the_same_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    earlier = importlib.import_module("run").earlier
    path, known = tmp_path / "startup.json", {"machine": {"cores": 2}, "versions": {"torch": "2"}, "threads": 2}
    samples = [{"contestant": "a", "round": 1, "seconds": 1.0}]
    path.write_text(json.dumps({**known, "samples": samples}), encoding="utf-8")
    assert earlier(path, known) == (samples, {})
    path.write_text(json.dumps({**known, "samples": samples, "remark": "Tests ran too."}), encoding="utf-8")
    assert earlier(path, known) == (samples, {"remark": "Tests ran too."})
    with pytest.raises(SystemExit, match="measured with other versions; leave out --append"):
        earlier(path, {**known, "versions": {"torch": "3"}})


def test_page_says_what_the_samples_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "report.py"), "--check"], capture_output=True, text=True
    )
    if not (ROOT / "benchmarks" / "results" / "training.json").exists():
        pytest.skip("nothing has been measured yet")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not GSM8K.exists(), reason=f"the GSM8K rows are not at {GSM8K}")
@pytest.mark.parametrize("item", ["training", "rounding", "preparation", "command", "startup", "scaling"])
def test_every_item_runs(item: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model, once; with unsloth where `make test` has made an interpreter that has it."""
    pytest.importorskip("trl", reason="training needs the extra [train]")
    with_unsloth = ROOT / ".venv-unsloth" / "bin" / "python"
    python = str(with_unsloth) if with_unsloth.exists() else sys.executable
    done = run("--quick", "--threads", "1", "--only", item, "--out", str(tmp_path), python=python)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((tmp_path / f"{item}.json").read_text(encoding="utf-8"))
    assert result["machine"]["cores"] >= 1
    assert "torch" in result["versions"]
    numbers = [value for sample in result["samples"] for value in sample.values() if isinstance(value, float)]
    assert numbers
    assert all(math.isfinite(number) and number > 0 for number in numbers)

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report  # type: ignore[import-not-found]
    from suite.plots import PLOTS, plot  # type: ignore[import-not-found]

    text = report.page({item: result})
    for contestant in {sample["contestant"] for sample in result["samples"]}:
        assert item == "scaling" or contestant in text
    if item in PLOTS:
        plot(item, result, tmp_path / "plot.svg")
        assert (tmp_path / "plot.svg").read_text(encoding="utf-8").startswith("<?xml")
