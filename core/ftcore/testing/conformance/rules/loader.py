"""Rules for loaders: the tokenizer first, the seed and the type as configured, an adapter that can be trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.testing.conformance.rule import NotTried, refusal, rule
from ftcore.testing.conformance.subject import Scene, Subject, as_raised
from ftcore.testing.conformance.weights import changed, loaded, trainable

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


@rule(
    "loader-tokenizer",
    why="conversations are written by the chat template; padding that is also the end of a turn is never learned",
    fix="raise ModelError without a template; choose a pad token that is not the EOS token",
)
def tokenizer(subject: Subject) -> Iterator[str]:
    """Its tokenizer has a chat template, an EOS token, and a pad token that is another one."""
    scene = _scene(subject)
    with as_raised():
        found = scene.stages.loader(scene.run).tokenizer()
    if not getattr(found, "chat_template", None):
        yield "the tokenizer has no chat template"
    if found.eos_token_id is None or found.pad_token_id is None:
        yield f"the tokenizer has the EOS token {found.eos_token!r} and the pad token {found.pad_token!r}"
    elif found.eos_token_id == found.pad_token_id and subject.setup.model is None:
        yield f"the pad token is the EOS token ({found.eos_token!r}), though the tokenizer has another one"


@rule(
    "loader-tokenizer-first",
    why="the data are prepared and audited with the tokenizer before the weights cost time and memory",
    fix="load the tokenizer in tokenizer(), the weights in model()",
)
def tokenizer_first(subject: Subject) -> Iterator[str]:
    """Its tokenizer is there without the weights."""
    source = Path(_scene(subject).stages.model_source())
    if not source.is_dir():
        raise NotTried("the model is no folder whose weights could be left out")
    bare = subject.folder / "without-weights"
    shutil.copytree(source, bare, ignore=shutil.ignore_patterns(*_WEIGHTS))
    scene = _scene(subject, {"base_model_id": str(bare)})
    with as_raised():
        scene.stages.loader(scene.run).tokenizer()
    yield from ()


@rule(
    "loader-trains",
    why="a model in evaluation mode has no dropout, one without trainable weights learns nothing",
    fix="add the adapter, and call model.train()",
)
def trains(subject: Subject) -> Iterator[str]:
    """Its model is in training mode, computes, and has a gradient in its adapter and nowhere else."""
    import torch

    found, model = _loaded(_scene(subject))
    if not model.training:
        yield "the model is in evaluation mode"
    learned = [name for name, value in model.named_parameters() if value.requires_grad]
    if not learned:
        yield "no weight is trained"
        return
    ids = torch.tensor([found("How many apples are there?")["input_ids"]], device=next(model.parameters()).device)
    loss = model(input_ids=ids, labels=ids).loss
    if not torch.isfinite(loss):
        yield f"the loss of a sentence is {float(loss)}"
    loss.backward()
    if not any(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters()):
        yield "no trained weight has a gradient"
    if others := [name for name in learned if "lora" not in name]:
        yield f"weights besides the adapter are trained: {', '.join(others[:3])}"


@rule(
    "loader-seed",
    why="two runs with one seed would start from different adapters, and none could be repeated",
    fix="seed torch with run.seed before the adapter is made",
)
def seed(subject: Subject) -> Iterator[str]:
    """The same seed gives the same adapter, another seed another one."""
    first, second = (trainable(_loaded(_scene(subject, {"seed": 1}))[1]) for _ in range(2))
    if different := changed(first, second):
        yield f"with the same seed, {len(different)} of {len(first)} trained weights differ, e.g. {sorted(different)[0]}"
    if not changed(first, trainable(_loaded(_scene(subject, {"seed": 2}))[1])):
        yield "with another seed, the adapter is the same"


@rule(
    "loader-dtype",
    why="the type decides the memory that a model takes and how it rounds; a user who sets it has counted on it",
    fix="give model.dtype to from_pretrained; raise ModelError for one that cannot be had",
)
def dtype(subject: Subject) -> Iterator[str]:
    """The frozen weights have the type that was asked for."""
    import torch

    for asked in ("float32", "bfloat16"):
        model = _loaded(_scene(subject, {"dtype": asked}))[1]
        frozen = {value.dtype for value in model.parameters() if not value.requires_grad}
        if others := frozen - {getattr(torch, asked)}:
            yield f'with dtype = "{asked}" it has {", ".join(sorted(str(other) for other in others))}'


@rule(
    "loader-adapter",
    why="a rank or layers other than configured are another training than the one asked for",
    fix="give rank and target_modules of the settings to the adapter",
)
def adapter(subject: Subject) -> Iterator[str]:
    """The adapter has the configured rank, in the configured layers."""
    model = _loaded(_scene(subject, {"rank": 3, "target_modules": ["q_proj"]}))[1]
    learned = trainable(model)
    if others := [name for name in learned if "q_proj" not in name]:
        yield f'with target_modules = ["q_proj"] it trains {", ".join(sorted(others)[:3])}'
    if wrong := [name for name, value in learned.items() if value.ndim == 2 and 3 not in value.shape]:
        yield f"with rank = 3 the weight {sorted(wrong)[0]} is {' × '.join(map(str, learned[wrong[0]].shape))}"


@rule(
    "loader-refuses",
    why="a mistyped model is the user's mistake: one line, and no traceback",
    fix="raise ModelError with what was looked for, and where",
)
def refuses(subject: Subject) -> Iterator[str]:
    """A model that is not there raises an FtcoreError."""
    scene = _scene(subject)
    settings = scene.config.fine_tuner
    source = str(subject.folder / "ftcore-no-such-model")

    def load() -> None:
        with as_raised():
            loader = scene.stages.loader_of(
                scene.run, source, settings.view(ModelSettings), settings.view(LoraSettings)
            )
            loader.tokenizer()
            loader.model()

    yield from refusal(load, f'"{source}"')


def _scene(subject: Subject, fine_tuner: Mapping[str, Any] | None = None) -> Scene:
    source = {"base_model_id": subject.setup.model or str(subject.model)}
    return subject.scene("loader", {"fine_tuner": source | dict(fine_tuner or {})})


def _loaded(scene: Scene) -> tuple[Any, Any]:
    with as_raised():
        return loaded(scene)
