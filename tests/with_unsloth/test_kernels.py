"""unsloth's fused LoRA functions, which a GPU would run, are rounded once: on tensors of a CPU, with unsloth's own code."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("unsloth")]
pytest.importorskip("transformers", reason="training needs the extra [train]")


def test_they_are_rounded_once_and_given_back(unsloth_python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(unsloth_python), str(Path(__file__).with_name("kernels.py"))],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "UNSLOTH_FORCE_CPU": "1", "CUDA_VISIBLE_DEVICES": "", "UNSLOTH_DISABLE_STATISTICS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["obstacle"] == ""
    before, after = found["before"], found["after"]
    for name in ("product", "layer", "layer_bias", "token", "token_bias"):
        assert before[name] > 1.3 * before["ideal"], name
        assert after[name] < 1.1 * after["ideal"], name
    assert after["gradients"] < 1.05 * before["gradients"]
    assert found["restored"] == before
    assert (
        found["obstacle_of_another"] == "unsloth.kernels.utils.matmul_lora is another than this version of ftcore knows"
    )
