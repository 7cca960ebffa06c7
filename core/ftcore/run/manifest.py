"""What a run was made of: versions, plugins, hardware, seed, data."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ftcore import __version__, files
from ftcore.config import Config, origins, policy
from ftcore.plugins import Plugins
from ftcore.plugins.selection import Choice

LIBRARIES = (
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "unsloth", "unsloth_zoo",
    "tokenizers", "safetensors", "huggingface_hub", "mlflow", "wandb", "tensorboard", "numpy", "pyarrow", "pluggy",
    "pydantic", "gguf",
)  # fmt: skip
"""The libraries whose versions can change a result."""


def library_versions() -> dict[str, str]:
    """The installed ones among `LIBRARIES`."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Processor, memory in bytes, and the GPUs where torch is already loaded."""
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu_cores": os.cpu_count(),
    }
    if hasattr(os, "sysconf"):
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpus"] = [
            {
                "name": torch.cuda.get_device_name(index),
                "memory_bytes": torch.cuda.get_device_properties(index).total_memory,
            }
            for index in range(torch.cuda.device_count())
        ]
        facts["cuda"] = torch.version.cuda
    return facts


def first_manifest(
    name: str, config: Config, plugins: Plugins, selected: Iterable[Choice], started_at: datetime
) -> dict[str, Any]:
    """What is known when the run directory is made."""
    return {
        "ftcore": __version__,
        "run": name,
        "status": "running",
        "started_at": started_at.isoformat(),
        "config_file": config.path.name,
        "config_dir": str(config.path.parent.absolute()),
        "overrides": list(config.overrides),
        "config_folders": {where: str(folder.absolute()) for where, folder in config.folders.items()},
        "origins": origins.written(config),
        "policies": policy.facts(config.ruled, plugins),
        "chosen": {section: sorted(table) for section, table in config.given.items()},
        "seed": config.fine_tuner.seed,
        "stages": [vars(choice) for choice in selected if choice.plugin],
        "plugins": {
            record.name: {"distribution": record.distribution, "version": record.version, "state": record.state}
            for record in plugins.records
        },
        "python": platform.python_version(),
        "libraries": library_versions(),
        "hardware": hardware(),
    }


def update(path: Path, manifest: dict[str, Any], **facts: Any) -> None:
    """Add facts to the manifest and write it again."""
    manifest.update(facts)
    files.write_json(path, manifest)
