"""The unsloth loader keeps the rules that third parties' plugins are held against, in an interpreter with unsloth."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("unsloth")]
pytest.importorskip("transformers", reason="training needs the extra [train]")

PLUGIN = "unsloth"


def test_it_keeps_every_rule(unsloth_python: Path, tmp_path: Path) -> None:
    # As docs/testing-plugins.md has it: what must be imported first is imported by conftest.py.
    (tmp_path / "conftest.py").write_text("import unsloth\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [str(unsloth_python), "-m", "pytest", "-v", "-p", "no:cacheprovider", "--ftcore-plugin", PLUGIN],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **own,
            "UNSLOTH_FORCE_CPU": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "UNSLOTH_DISABLE_STATISTICS": "1",
            "UNSLOTH_COMPILE_LOCATION": str(tmp_path / "compiled"),
        },
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    ended = dict(re.findall(rf"ftcore-plugin/{PLUGIN}::(\S+) (\w+)", done.stdout))
    assert {rule for rule in ended if rule.startswith("loader-")} >= {
        "loader-tokenizer-first",
        "loader-trains",
        "loader-seed",
        "loader-dtype",
        "loader-adapter",
        "loader-refuses",
    }
    assert set(ended.values()) == {"PASSED"}, ended
