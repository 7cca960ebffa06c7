"""A tiny model with an adapter, its weights as they are, and what has changed in them."""

from __future__ import annotations

import random
from typing import Any

from ftcore.testing.conformance.subject import Scene


def loaded(scene: Scene) -> tuple[Any, Any]:
    """The tokenizer, and the model with its adapter, as the configuration's loader loads them."""
    unsettle()
    loader = scene.stages.loader(scene.run)
    return loader.tokenizer(), loader.model()


def unsettle() -> None:
    """Let all random states be elsewhere each time: a seed that is not set does not go unnoticed."""
    import numpy
    import torch

    seed = random.SystemRandom().randrange(2**31)
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def trainable(model: Any) -> dict[str, Any]:
    """A copy of each weight that is trained, by name."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def weights(model: Any) -> dict[str, Any]:
    """A copy of each weight, by name."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before: dict[str, Any], after: dict[str, Any], tolerance: float = 0.0) -> list[str]:
    """The names of weights that are there only once, or differ by more than `tolerance`."""
    import torch

    return [
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or before[name].shape != after[name].shape
        or not torch.allclose(before[name].float(), after[name].float(), rtol=0.0, atol=tolerance)
    ]
