"""Where the unsloth loader offers itself, and where it stands back: decided by what is installed, with nothing imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcore.config import Config
from ftcore_unsloth.limits import beyond, may_have_accelerator
from ftcore_unsloth.versions import obstacle

Install = Callable[..., Path]
Ftcore = Callable[..., Any]

GOOD = "2026.10.9"
MINIMAL = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n'


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def unsloth(install: Install) -> Callable[..., None]:
    """Installs distributions named unsloth and unsloth_zoo, that must never be imported."""

    def make(version: str = GOOD, zoo: str = GOOD, requires: tuple[str, ...] = ()) -> None:
        broken = "raise AssertionError('imported')"
        install("unsloth", {"unsloth": broken}, version=version, requires=requires, entry_points_text="\n")
        install("unsloth_zoo", {"unsloth_zoo": broken}, version=zoo, entry_points_text="\n")

    return make


def config_file(folder: Path, text: str = "") -> str:
    (folder / "d.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    path = folder / "config.toml"
    path.write_text(MINIMAL.replace("d.jsonl", str(folder / "d.jsonl")) + text)
    return str(path)


def served(ftcore: Ftcore, path: str) -> str:
    """The line of `plugins why` about the loader."""
    outcome = ftcore("plugins", "why", path)
    assert outcome.code == 0, outcome.err
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("loader"))
    return line


def test_the_tested_versions_are_no_obstacle(unsloth: Callable[..., None]) -> None:
    unsloth(requires=("pydantic", "torch<99", 'triton>=3; sys_platform == "win32"'))
    assert obstacle() == ""
    assert "unsloth" not in sys.modules


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"version": "2026.9.1"}, "unsloth 2026.9.1 is installed, and this plugin was tested with >=2026.10,<2026.11"),
        ({"version": "2026.11.0"}, "unsloth 2026.11.0 is installed"),
        ({"zoo": "2025.8.1"}, "unsloth_zoo 2025.8.1 is installed"),
        ({"requires": ("transformers<=4.0",)}, "it takes transformers<=4.0, and "),
        ({"requires": ("trl<=0.1",)}, "it takes trl<=0.1, and "),
    ],
)
def test_other_versions_are_named(unsloth: Callable[..., None], versions: dict[str, str], expected: str) -> None:
    pytest.importorskip("trl", reason="training needs the extra [train]")
    unsloth(**versions)
    assert expected in obstacle()


def test_a_folder_that_happens_to_be_named_unsloth_is_not_unsloth(install: Install) -> None:
    install("something-else", {"unsloth": "", "unsloth_zoo": ""})
    assert obstacle() == "unsloth and unsloth_zoo not installed"


def test_a_mac_is_left_to_transformers(unsloth: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    unsloth()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "MLX" in obstacle()


def test_auto_takes_it_where_it_is_installed(ftcore: Ftcore, unsloth: Callable[..., None], tmp_path: Path) -> None:
    assert served(ftcore, config_file(tmp_path)).split()[1] == "transformers"
    unsloth()
    line = served(ftcore, config_file(tmp_path))
    assert line.split()[1] == "unsloth"
    assert "unsloth is installed and drives this machine" in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("load_in_8bit = true\nload_in_4bit = false\n", "unsloth would load 16-bit weights instead"),
        ('dtype = "float16"\n', "unsloth would use another type than float16"),
        ("loftq_config = { loftq_bits = 4 }\n", "unsloth does not start an adapter with LoftQ"),
    ],
)
def test_auto_leaves_to_transformers_what_unsloth_would_do_otherwise(
    ftcore: Ftcore, unsloth: Callable[..., None], tmp_path: Path, text: str, reason: str
) -> None:
    unsloth()
    assert served(ftcore, config_file(tmp_path, text)).split()[1] == "transformers"
    chosen = ftcore("check", config_file(tmp_path, text + '[stages]\nloader = "unsloth"\n'))
    assert chosen.code == 2
    assert reason in chosen.err
    assert 'set [stages] loader = "transformers"' in chosen.err


def test_check_says_what_stands_in_the_way(ftcore: Ftcore, unsloth: Callable[..., None], tmp_path: Path) -> None:
    unsloth(version="2026.1.1")
    outcome = ftcore("check", config_file(tmp_path, '[stages]\nloader = "unsloth"\n'))
    assert outcome.code == 2
    assert "unsloth cannot be used: unsloth 2026.1.1 is installed" in outcome.err
    assert "Run: pip install 'ftcore[unsloth]', or set [stages] loader" in outcome.err


def test_a_gpu_can_do_what_a_cpu_cannot(load: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load("load_in_8bit = true\n").fine_tuner
    assert [key for key, _ in beyond(settings)] == ["load_in_8bit"]
    monkeypatch.setattr("ftcore_unsloth.limits._DEVICES", (__file__,))
    assert not may_have_accelerator()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.delenv("UNSLOTH_FORCE_CPU", raising=False)
    assert may_have_accelerator()
    assert beyond(settings) == []
