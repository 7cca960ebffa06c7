"""What all tests share: a quiet and offline environment, the command line in this process, installed packages of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ftcore.config import Config
    from ftcore.plugins import Plugins

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_ENVIRONMENT = {
    "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // _WORKERS)),  # torch in each worker would take all cores
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

# The same examples each time, and no limit of time: whether a change is accepted depends neither on luck nor on what else
# the machine does. tests/fuzz looks for what nobody has thought of.
if importlib.util.find_spec("hypothesis"):  # tests/gpu does without
    from hypothesis import HealthCheck, settings

    settings.register_profile("ftcore", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ftcore")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of standard error."""
        return self.err.splitlines()


Ftcore = Callable[..., Outcome]


@pytest.fixture
def ftcore(capsys: pytest.CaptureFixture[str]) -> Iterator[Ftcore]:
    """Runs `ftcore ARGUMENTS` in this process, through the same `main` as the command."""
    from ftcore.cli import main as cli_main

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            cli_main.main(list(arguments))
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    yield run
    cli_main.cli.commands.clear()  # what plugins registered in one test


Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with real entry points, as `pip` would lay it out, for the length of a test."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def make(
        distribution: str,
        modules: Mapping[str, str],
        entry_points: Mapping[str, str] | None = None,
        *,
        version: str = "1.2.3",
        requires: Sequence[str] = (),
        entry_points_text: str | None = None,
    ) -> Path:
        for module, source in modules.items():
            (site / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(metadata) + "\n", encoding="utf-8")
        points = "\n".join(f"{name} = {value}" for name, value in (entry_points or {}).items())
        (info / "entry_points.txt").write_text(entry_points_text or f"[ftcore]\n{points}\n", encoding="utf-8")
        importlib.invalidate_caches()
        return site

    yield make
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The built-in plugins."""
    from ftcore.plugins import discover

    return discover(disabled=())


MINIMAL = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n'
"""The shortest valid configuration."""


@pytest.fixture
def load(tmp_path: Path, plugins: Plugins) -> Callable[..., Config]:
    """Reads a configuration from text; without `whole`, the text stands behind the required keys."""
    from ftcore.config import load as load_config

    def read(text: str = "", *overrides: str, whole: bool = False) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text if whole else MINIMAL + text, encoding="utf-8")
        return load_config(path, plugins, overrides)

    return read


@pytest.fixture(scope="session")
def unsloth_python() -> Path:
    """An interpreter with unsloth beside everything that this one has; `make test` makes it."""
    python = Path(__file__).parents[1] / ".venv-unsloth" / "bin" / "python"
    if importlib.util.find_spec("unsloth"):
        return Path(sys.executable)
    if not python.exists():
        pytest.skip("unsloth is not installed: python tests/with_unsloth/environment.py .venv-unsloth")
    return python


@pytest.fixture(scope="session")
def cuda() -> str:
    """The name of the CUDA device; skips where there is none."""
    torch = pytest.importorskip("torch", reason="training needs the extra [train]")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return str(torch.cuda.get_device_name())
