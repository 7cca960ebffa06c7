"""Optimizers: which names there are, and which of them run on this machine."""

from __future__ import annotations

import importlib.util

from ftcore.contracts import Run
from ftcore.errors import TrainingError

OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_torch_4bit", "adamw_torch_8bit", "adafactor", "adamw_anyprecision",
    "sgd", "adagrad", "rmsprop", "nadam", "radam", "adamax", "asgd", "rprop", "lbfgs",
    "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "ademamix", "ademamix_8bit",
    "paged_ademamix_32bit", "paged_ademamix_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit",
    "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit",
)  # fmt: skip
"""Names that transformers' `OptimizerNames` knows and that need nothing beyond ftcore's own requirements."""

_BITSANDBYTES = (
    *tuple(name for name in OPTIMIZERS if "bit" in name and "torch" not in name),
    "rmsprop_bnb",
    "ademamix",
)
_SUBSTITUTES = {"adamw": "adamw_torch", "ademamix": "adamw_torch", "lion": "adamw_torch", "rmsprop": "rmsprop"}


def runnable(name: str, allow_substitute: bool, run: Run) -> str:
    """The optimizer itself, or the nearest one that this machine runs, which is said aloud.

    Raises:
        TrainingError: it does not run here and a substitute is not allowed.
    """
    obstacle = _obstacle(name)
    if not obstacle:
        return name
    substitute = next(other for family, other in _SUBSTITUTES.items() if family in name)
    if not allow_substitute:
        raise TrainingError(f"optimizer = {name} cannot run here", why=obstacle, fix=f"Set optimizer = {substitute}")
    run.warn(f"optimizer = {name} cannot run here ({obstacle}): {substitute} is used instead")
    return substitute


def _obstacle(name: str) -> str:
    if name not in _BITSANDBYTES:
        return ""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "the package bitsandbytes is not installed (ftcore[quantization])"
    import torch

    return "" if torch.cuda.is_available() else "bitsandbytes' optimizers need a GPU"
