"""What the quick commands must not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "mlflow", "wandb", "tensorboard", "bitsandbytes",
    "huggingface_hub", "numpy", "pyarrow", "gguf", "safetensors", "pandas", "unsloth",
}  # fmt: skip

PROGRAM = """
import sys
from ftcore.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}))
"""

CONFIG = """
[fine_tuner]
base_model_id = "user/model"
training_data_id = "data.jsonl"
validation_data_id = "user/data"
report_to = ["mlflow", "wandb", "tensorboard"]
push_to_hub = true
"""


def imported(folder: Path, *arguments: str) -> set[str]:
    (folder / "c.toml").write_text(CONFIG, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HF_TOKEN": "none-of-yours", "HOME": str(folder), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (modules,) = [line for line in done.stdout.splitlines() if line.startswith("MODULES ")]
    return set(modules.split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("check", "--help"),
        ("estimate", "--help"),
        ("init", "--help"),
        ("doctor", "--help"),
        ("preview", "--help"),
        ("cache",),
        ("cache", "prune"),
    ],
)
def test_help_imports_no_plugin_and_no_settings(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    modules = imported(tmp_path, *arguments)
    assert not modules & (HEAVY | {"pydantic", "rich", "tomli"})
    assert not {name for name in modules if name.startswith("ftcore_")}


@pytest.mark.parametrize(
    "arguments", [("check", "c.toml"), ("plugins",), ("plugins", "why", "c.toml"), ("schema",), ("doctor",)]
)
def test_looking_at_a_configuration_imports_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    modules = imported(tmp_path, *arguments)
    assert not modules & HEAVY
    assert {"pydantic", "ftcore_local"} <= modules


def test_importing_the_contract_imports_nothing_heavy() -> None:
    program = "import sys, ftcore, ftcore.contracts, ftcore.errors; print(*{n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & (HEAVY | {"pydantic", "rich", "click"})
