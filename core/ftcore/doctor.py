"""What this machine has to train with, for people who ask why it does not, or want to report it.

Every probe stands alone: one that fails says so in its place and takes nothing else with it. Nothing heavy is imported in
this process; torch, which a broken driver or wheel can take down altogether, is asked in a process of its own.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ftcore import __version__, cpu
from ftcore.errors import FtcoreError
from ftcore.plugins import DISABLE_VARIABLE, Plugins, discover
from ftcore.run.manifest import LIBRARIES
from ftcore.secrets import masked

SECRETS = ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
"""Looked for; never shown."""

VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTPS_PROXY", "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TOKENIZERS_PARALLELISM", "TRANSFORMERS_OFFLINE",
    "MLFLOW_TRACKING_URI", "WANDB_MODE",
)  # fmt: skip
"""Environment variables that change what a run does, beside ftcore's own (`FTCORE_…`) and unsloth's (`UNSLOTH_…`)."""

_PROVIDED_BY = {
    "torch": "train", "transformers": "train", "trl": "train", "peft": "train", "datasets": "train",
    "accelerate": "train", "safetensors": "train", "tokenizers": "train", "numpy": "train", "pyarrow": "train",
    "huggingface_hub": "hub", "bitsandbytes": "quantization", "unsloth": "unsloth", "unsloth_zoo": "unsloth",
    "mlflow": "mlflow", "wandb": "wandb", "tensorboard": "tensorboard", "gguf": "smollm2",
}  # fmt: skip
"""The extra of ftcore's wheel that brings a library."""

_TORCH = """
import json, torch
facts = {"version": torch.__version__, "built_for_cuda": torch.version.cuda, "threads": torch.get_num_threads()}
facts["cuda_available"] = torch.cuda.is_available()
facts["gpus"] = []
for index in range(torch.cuda.device_count() if facts["cuda_available"] else 0):
    found = torch.cuda.get_device_properties(index)
    free = torch.cuda.mem_get_info(index)[0]
    facts["gpus"].append({"name": found.name, "memory_bytes": found.total_memory, "free_bytes": free,
                          "capability": f"{found.major}.{found.minor}"})
print("FACTS" + json.dumps(facts))
"""
_PATIENCE = 120  # seconds; torch's first import from a cold disk takes a while

Facts = dict[str, Any]


def examine() -> Facts:
    """Everything, by section; a section that could not be had is `{"error": …}`. Secrets are masked."""
    probes: Mapping[str, Callable[[], Facts]] = {
        "system": system,
        "processor": processor,
        "disk": disk,
        "torch": torch_and_gpus,
        "driver": driver,
        "libraries": libraries,
        "plugins": plugins,
        "loader": loader,
        "tokens": tokens,
        "environment": environment,
    }
    return {name: masked(_attempt(probe)) for name, probe in probes.items()}


def _attempt(probe: Callable[[], Facts]) -> Facts:
    try:
        return probe()
    except Exception as error:  # whatever is broken here is what the user wants to know
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}


def system() -> Facts:
    """ftcore, Python and the operating system."""
    return {
        "ftcore": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "c_library": " ".join(platform.libc_ver()).strip() or "unknown",
    }


def processor() -> Facts:
    """The processor, and the memory in bytes."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": cpu.model(),
        "cores": os.cpu_count(),
        "usable_cores": allowed,
        "features": cpu.features(),
        "bfloat16": cpu.computes_bfloat16(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "available_bytes": _available(),
    }


def _available() -> int | None:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def disk() -> Facts:
    """The working folder's disk, in bytes."""
    folder = Path.cwd()
    usage = shutil.disk_usage(folder)
    return {"folder": str(folder), "free_bytes": usage.free, "total_bytes": usage.total,
            "writable": os.access(folder, os.W_OK)}  # fmt: skip


def torch_and_gpus() -> Facts:
    """torch's build and the GPUs that it sees."""
    try:
        distribution("torch")
    except PackageNotFoundError:
        return {"missing": _install("torch")}
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("FACTS"):
            facts: Facts = json.loads(line.removeprefix("FACTS"))
            return facts
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return {"error": f"torch cannot be imported: {last}"}


def driver() -> Facts:
    """NVIDIA's driver, as its own tool reports it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"nvidia": "no nvidia-smi here"}
    done = subprocess.run(  # noqa: S603
        [tool, "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    answer = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return {"nvidia": answer[0] if answer else f"nvidia-smi ended with {done.returncode}"}


def libraries() -> Facts:
    """The version of each relevant library, or what installs it."""
    facts: Facts = {}
    for name in LIBRARIES:
        try:
            facts[name] = {"version": distribution(name).version}
        except PackageNotFoundError:
            facts[name] = {"version": None, "install": _install(name)}
    return facts


def _install(library: str) -> str:
    extra = _PROVIDED_BY.get(library)
    return f"pip install 'ftcore[{extra}]'" if extra else f"pip install {library}"


def plugins() -> Facts:
    """How many plugins work, and why the others do not."""
    records = discover().records
    return {
        "working": [record.name for record in records if record.state == "ok"],
        "not_working": {record.name: f"{record.state}: {record.reason}" for record in records if record.state != "ok"},
    }


def loader() -> Facts:
    """The loader that `auto` chooses for an ordinary configuration, and why."""
    from ftcore.plugins.selection import loader_for

    found = discover()
    try:
        choice = loader_for(_ordinary(), found)
    except FtcoreError as error:
        return {"auto": None, "why": str(error)}
    best, *declined = choice.why.split("; ")
    return {
        "auto": choice.plugin,
        "why": best.removeprefix("auto: "),
        "stood_back": declined,
        "problems": _problems(found, choice.plugin),
    }


def _problems(found: Plugins, name: str) -> list[str]:
    """What the chosen loader itself finds missing."""
    if name not in found.implementing("ftcore_check"):
        return []
    config = _ordinary()
    answer = found.call("ftcore_check", name, config=config, settings=config.section(name))
    return [f"{problem.message}. {problem.fix}" for problem in answer or ()]


def _ordinary() -> Any:
    from ftcore.config import Config
    from ftcore.settings.audit import AuditSettings
    from ftcore.settings.fine_tuner import FineTunerSettings
    from ftcore.settings.run import RunSettings
    from ftcore.settings.stages import StageSettings

    return Config(
        path=Path("config.toml"),
        fine_tuner=FineTunerSettings(base_model_id="user/model", training_data_id="data.jsonl"),
        stages=StageSettings(),
        run=RunSettings(),
        audit=AuditSettings(),
    )


def tokens() -> Facts:
    """Which secrets are set; an empty one counts as missing."""
    return {name: "set" if os.environ.get(name) else "not set" for name in SECRETS}


def environment() -> Facts:
    """The variables that matter and are set."""
    ours = [name for name in os.environ if name.startswith(("FTCORE_", "UNSLOTH_"))]
    return {name: os.environ[name] for name in sorted({*VARIABLES, DISABLE_VARIABLE, *ours}) if name in os.environ}
