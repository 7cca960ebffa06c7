"""Runs that are killed at random moments. `python tests/e2e/killing.py FOLDER --moments 50` takes more of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="training needs the extra [train]")


@pytest.mark.slow
def test_killed_at_random_moments_a_run_comes_to_the_same(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "--moments", "6", "--seed", "3"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["moments"], summary["different"]) == (6, 0)
    # Some are over before their moment comes, where the machine was busier at first.
    assert done.stdout.count("(killed; ") >= 3, done.stdout
