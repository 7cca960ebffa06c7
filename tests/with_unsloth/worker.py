"""Runs jobs with the unsloth loader, in an interpreter that has it: many jobs in one process, for its import is long.

Reads from standard input a JSON object, a name and a job each: `{"config": PATH}`, with `"resume": FOLDER` to go on from a
checkpoint. Writes one of outcomes: the run's folder and what was seen of the model, or the error.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    jobs = json.load(sys.stdin)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        outcomes = {name: outcome(job) for name, job in jobs.items()}
    json.dump(outcomes, answers)


def outcome(job: dict[str, Any]) -> dict[str, Any]:
    from ftcore.config import load
    from ftcore.errors import FtcoreError
    from ftcore.plugins import discover
    from ftcore.run import pipeline
    from ftcore_sft.trainer import SupervisedTrainer
    from ftcore_unsloth.loader import UnslothLoader

    seen: dict[str, Any] = {}
    make, attach, fit = UnslothLoader.model, SupervisedTrainer.attach, SupervisedTrainer.fit

    def watched_model(loader: Any) -> Any:
        model = make(loader)
        seen.update(facts(model))
        return model

    def watched_attach(trainer: Any, model: Any, *args: Any) -> None:
        attach(trainer, model, *args)
        seen["trainer"] = [kind.__module__ for kind in type(trainer._trainer).__mro__]
        seen["optim"] = str(trainer._trainer.args.optim.value)
        if trainer._training.packing:
            seen["among_neighbours"] = among_neighbours(trainer._trainer, args[0].examples)

    def watched_fit(trainer: Any, resume_from: Path | None) -> Any:
        with computations(trainer._trainer.model, seen):
            result = fit(trainer, Path(job["resume"]) if "resume" in job else resume_from)
        seen["optimizer"] = type(trainer._trainer.optimizer.optimizer).__module__.partition(".")[0]
        seen["logits"] = logits(trainer._trainer.model)
        return result

    UnslothLoader.model = watched_model  # type: ignore[method-assign]
    SupervisedTrainer.attach = watched_attach  # type: ignore[method-assign]
    SupervisedTrainer.fit = watched_fit  # type: ignore[method-assign]
    try:
        run = pipeline.run(load(Path(job["config"]), discover(disabled=())), discover(disabled=()))
    except FtcoreError as error:
        return {"error": str(error), **seen}
    finally:
        UnslothLoader.model = make  # type: ignore[method-assign]
        SupervisedTrainer.attach, SupervisedTrainer.fit = attach, fit  # type: ignore[method-assign]
    return {"dir": str(run.dir), **seen}


def facts(model: Any) -> dict[str, Any]:
    layers = {name: module for name, module in model.named_modules() if name.endswith("q_proj")}
    first = next(iter(layers.values()))
    base = getattr(first, "base_layer", first)
    adapted = base is not first
    return {
        "weight": type(base).__name__,
        "dtype": str(base.weight.dtype),
        "trained": sorted({str(weight.dtype) for weight in model.parameters() if weight.requires_grad}),
        "trained_share": sum(weight.requires_grad for weight in model.parameters()) / len(list(model.parameters())),
        "biases": sorted(
            {
                name.split(".")[-2]
                for name, weight in model.named_parameters()
                if weight.requires_grad and name.endswith("bias")
            }
        ),
        "scaling": first.scaling["default"] if adapted else None,
        "dropout": getattr(first.lora_dropout["default"], "p", 0.0) if adapted else None,
        "adapted": sorted(
            {name.partition(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_modules() if ".lora_A." in name}
        ),
        "first_a": first.lora_A["default"].weight.sum().item() if adapted else None,
        "attention": model.config._attn_implementation,
        "training": model.training,
        "use_cache": model.config.use_cache,
    }


@contextlib.contextmanager
def computations(model: Any, seen: dict[str, Any]) -> Iterator[None]:
    """How often the first layer computes for each batch: twice where its activations are computed again."""
    calls = {"layer": 0, "batch": 0}

    def count(name: str) -> Any:
        return lambda *_: calls.update({name: calls[name] + 1})

    layer = next(module for name, module in model.named_modules() if name.endswith("layers.0.self_attn"))
    hooks = [
        layer.register_forward_hook(count("layer")),
        model.get_input_embeddings().register_forward_hook(count("batch")),
    ]
    yield
    for hook in hooks:
        hook.remove()
    seen["computations"] = calls["layer"] / calls["batch"]


def among_neighbours(trainer: Any, examples: Any) -> list[float]:
    """The loss of the first example, packed with the second and packed with the last."""
    import torch
    from datasets import Dataset

    from ftcore_sft.packing import pack

    example, *others = ({key: row[key] for key in ("input_ids", "labels")} for row in examples)
    losses = []
    trainer.model.eval()
    for ids in (others[0]["input_ids"], others[-1]["input_ids"][::-1]):
        neighbour = {"input_ids": ids, "labels": [-100] * len(ids)}
        packed = pack(Dataset.from_list([example, neighbour]), 128)
        batch = {key: value.to(trainer.model.device) for key, value in trainer.data_collator([packed[0]]).items()}
        with torch.no_grad():
            loss, count = trainer._supervised_loss(trainer.model, batch)
        losses.append(float(loss / count))
    trainer.model.train()
    return losses


def logits(model: Any) -> list[float]:
    """The model's answer to a fixed question, some of it."""
    import torch

    model.eval()
    with torch.no_grad():
        found = model(input_ids=torch.arange(3, 23, device=model.device)[None]).logits[0, -1, :8].float().tolist()
    model.train()
    return list(found)


if __name__ == "__main__":
    main()
