"""The tests of the labels are good enough: whatever is broken in what they test, one of them fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="training needs the extra [train]")

SCRIPT = Path(__file__).with_name("mutations.py")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_mutation_is_caught() -> None:
    names = run("--list").stdout.splitlines()
    assert len(names) >= 10
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [line.removeprefix("caught").strip().partition(":")[0] for line in done.stdout.splitlines()[:-1]] == names
    assert done.stdout.endswith(f"{len(names)} of {len(names)} caught\n")
