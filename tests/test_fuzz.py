"""A seeded share of what `tests/fuzz/fuzz.py` does: only documented errors, no traceback, no hang."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import TARGETS, random_inputs  # noqa: E402  (its folder has to be found first)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the data readers are tested on POSIX")

SHARE = {"config": 300, "override": 300, "reader": 150, "formatter": 400, "locator": 400}
_SLOWEST = 30.0  # seconds for one input on a busy machine; the usual one takes milliseconds


@pytest.mark.parametrize("name", TARGETS)
def test_changed_random_bytes(name: str) -> None:
    if name == "reader":
        pytest.importorskip("datasets")
    outcomes = set()
    for data in itertools.islice(random_inputs(seed=2026), SHARE[name]):
        started = time.monotonic()
        outcomes.add(TARGETS[name](data))
        assert time.monotonic() - started < _SLOWEST, data
    assert len(outcomes) > 1, "all inputs went the same way"


def _bytes_through(name: str) -> Callable[[Any], None]:
    @settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=300))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    return run


@pytest.mark.parametrize("name", ["config", "override", "formatter", "locator"])
def test_bytes_of_hypothesis(name: str) -> None:
    _bytes_through(name)()  # type: ignore[call-arg]


@settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60), st.sampled_from(["fine_tuner.rank", "run.name", "stages.savers", "mlflow.tags", "x", ""]))
def test_any_text_behind_set(value: str, target: str) -> None:
    from targets import MINIMAL, _load, _scratch

    path = _scratch() / "set.toml"
    path.write_text(MINIMAL)
    _load(path, [f"{target}={value}"])
    _load(path, [value])


def test_the_script_says_what_it_did(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZ / "fuzz.py"), "--engine", "random", "--only", "locator", "--inputs", "50"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "locator    random        50 inputs" in done.stdout
    assert done.stdout.rstrip().endswith("sound")
