"""What imports cost, and whose they are.

Some plugins (unsloth's) must come before others, and blame needs a name: who imported a heavy library first is remembered.
Every plugin is imported whenever a configuration is read, so each one's import is timed.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

WATCHED = ("torch", "transformers", "trl", "peft", "datasets")
"""The libraries whose first import is remembered."""

HEAVY = frozenset(
    {
        *WATCHED, "IPython", "PIL", "accelerate", "bitsandbytes", "boto3", "botocore", "deepspeed", "gguf", "google",
        "huggingface_hub", "jax", "keras", "langchain", "matplotlib", "mlflow", "nltk", "numba", "numpy", "onnxruntime",
        "openai", "pandas", "polars", "psycopg", "psycopg2", "pyarrow", "pyspark", "ray", "safetensors", "scipy",
        "sentence_transformers", "sklearn", "spacy", "sqlalchemy", "tensorboard", "tensorflow", "tokenizers",
        "torchvision", "triton", "unsloth", "unsloth_zoo", "vllm", "wandb", "xformers",
    }
)  # fmt: skip
"""Libraries that take so long to import that a plugin should do it inside a function."""

SLOW = 0.2
"""Seconds that a plugin may take to be imported before its author is told what to do."""

_OWN = ("ftcore.files", "ftcore.secrets", "ftcore.settings.audit", "ftcore.settings.fine_tuner")
"""Parts of ftcore that take time to import, pydantic above all, and that any plugin may use."""

# What has been imported is a fact of the process, and so is who did it.
_first: dict[str, str] = {}


@contextmanager
def on_behalf_of(plugin: str) -> Iterator[None]:
    """Imports that happen inside the block for the first time are the plugin's."""
    before = {name for name in WATCHED if name in sys.modules}
    try:
        yield
    finally:
        for name in WATCHED:
            if name in sys.modules and name not in before:
                _first.setdefault(name, plugin)


def imported_by(module: str) -> str | None:
    """The plugin that imported a watched library first; None if it was nobody's, or not imported at all."""
    return _first.get(module)


class Cost:
    """What happens inside the block takes, and imports for the first time; both are known behind it.

    Attributes:
        seconds: by the clock.
        heavy: the heavy libraries.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.heavy: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._before = {name for name in HEAVY if name in sys.modules}
        self._started = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._started
        self.heavy = tuple(sorted(name for name in HEAVY if name in sys.modules and name not in self._before))


def import_own() -> None:
    """Import what plugins use of ftcore, so that no plugin's import is charged with it."""
    for name in _OWN:
        importlib.import_module(name)
