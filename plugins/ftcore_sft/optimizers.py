"""Optimizers: which names there are, and which of them run on this machine."""

from __future__ import annotations

import importlib.util

from ftcore.contracts import Run
from ftcore.errors import TrainingError

OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adafactor",
    "sgd", "adagrad", "rmsprop",
    "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "ademamix", "ademamix_8bit",
    "paged_ademamix_32bit", "paged_ademamix_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit",
    "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit",
)  # fmt: skip
"""Names that transformers' `OptimizerNames` knows and that need nothing beyond ftcore's own requirements."""

_BITSANDBYTES = (*(name for name in OPTIMIZERS if "bit" in name and "torch" not in name), "rmsprop_bnb", "ademamix")
_WITHOUT_PAGES = {
    "paged_adamw_32bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}
_IN_TORCH = {"adamw": "adamw_torch", "rmsprop": "rmsprop"}


def runnable(name: str, allow_substitute: bool, run: Run) -> str:
    """The optimizer itself, or the nearest one that this machine runs, which is said aloud.

    Raises:
        TrainingError: it does not run here, and there is no substitute or none is allowed.
    """
    obstacle, substitute = _obstacle(name)
    if not obstacle:
        return name
    if not substitute or not allow_substitute:
        fix = f"Set optimizer = {substitute}" if substitute else "Set optimizer = adamw_torch, or install the package"
        raise TrainingError(f"optimizer = {name} cannot run here", why=obstacle, fix=fix)
    run.warn(f"optimizer = {name} cannot run here ({obstacle}): {substitute} is used instead")
    return substitute


def _obstacle(name: str) -> tuple[str, str]:
    """What is in the way, and what would work; both empty where nothing is."""
    if name not in _BITSANDBYTES:
        return "", ""
    if importlib.util.find_spec("bitsandbytes") is None:
        family = next((other for family, other in _IN_TORCH.items() if family in name), "")
        return "the package bitsandbytes is not installed: pip install 'ftcore[quantization]'", family
    import torch

    if name in _WITHOUT_PAGES and not torch.cuda.is_available():
        return "paging needs a GPU", _WITHOUT_PAGES[name]
    return "", ""
