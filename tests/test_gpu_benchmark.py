"""The GPU benchmark runs from end to end in its dry mode, on a processor."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("unsloth")]
pytest.importorskip("trl", reason="training needs the extra [train]")

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"


def bench(python: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), str(FOLDER / "bench.py"), "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_dry_mode_measures_every_runner_and_goes_on_where_it_stopped(unsloth_python: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = bench(unsloth_python, out, "--dry")
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    found = {name: case.get("error", case.get("tokens_per_second", 0)) for name, case in results["cases"].items()}
    assert all(isinstance(rate, float) and rate > 0 for rate in found.values()), found
    assert {case["case"]["runner"] for case in results["cases"].values()} == {"ftcore", "unsloth", "trl"}
    table = out.with_suffix(".md").read_text()
    assert "these numbers mean nothing" in table
    assert "| 4 GB | dry, 4 bit | 128 | 2 × 2 | 4 | yes |" in table
    again = bench(unsloth_python, out, "--dry")
    assert (again.returncode, again.stdout) == (0, "")
    assert json.loads(out.read_text()) == results


def test_without_a_gpu_only_the_dry_mode_runs(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = bench(Path(sys.executable), tmp_path / "results.json")
    assert (done.returncode, done.stderr) == (2, "no CUDA device is visible to torch; --dry runs on a processor\n")


def test_the_grid_covers_what_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("cases", FOLDER / "cases.py")
    assert spec
    assert spec.loader
    cases = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cases", cases)
    spec.loader.exec_module(cases)
    grid = list(cases.grid(["qwen2.5-0.5b", "llama-3.2-3b"]))
    assert len({case.name for case in grid}) == len(grid) == 48
    assert {case.length for case in grid} == {512, 2048, 4096}
    assert {case.bits for case in grid} == {4, 16}
    assert {case.checkpointing for case in grid} == {"off", "true", "unsloth"}
    assert {case.packing for case in grid} == {True, False}
    assert [case.preset for case in cases.presets()] == [4, 8, 12]
    # Qwen2.5-0.5B has 0.49 billion parameters, 0.36 of them outside its embedding, which is its head too.
    assert cases.ARCHITECTURES["qwen2.5-0.5b"].matrix_parameters == pytest.approx(0.49e9, rel=0.02)
    assert cases.ARCHITECTURES["llama-3.2-3b"].matrix_parameters == pytest.approx(3.2e9, rel=0.02)
