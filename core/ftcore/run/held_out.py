"""Models evaluated on the run's held-out rows, as the run evaluates its own."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.config import Config
from ftcore.contracts import Examples, Run
from ftcore.errors import ModelError
from ftcore.processes import world_size
from ftcore.quiet import quiet_libraries
from ftcore.run import runs
from ftcore.settings.data import DataSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings

if TYPE_CHECKING:
    from ftcore.run.stages import Stages


@dataclass(frozen=True)
class HeldOutRows:
    """Implements `ftcore.contracts.HeldOut`."""

    config: Config
    stages: Stages
    run: Run

    @property
    def rows(self) -> str:
        return self.config.fine_tuner.validation_data_id or ""

    def source(self) -> str:
        known = str(runs.facts(self.run.dir).get("model_source", ""))
        if known and (found := self._beside(known)) is not None:
            return found
        source = self.stages.model_source()
        if known and source != known:
            self.run.warn(f"the model that was trained, {known}, is gone; its id leads to {source} now, which is taken")
        return self._beside(source) or source

    def _beside(self, source: str) -> str | None:
        """The path if it exists; it may be of a folder that was named from where the run was started, which is often
        where its configuration lies."""
        beside = self.config.folder("fine_tuner.base_model_id") / source
        return next((str(path) for path in (Path(source), beside) if path.exists()), None)

    def loss(self, folder: Path, *, adapter: Path | None = None, dtype: str | None = None) -> float:
        if not self.rows:
            raise ModelError("there are no held-out rows to evaluate on", fix="Set validation_data_id")
        if world_size() > 1:
            raise ModelError(
                "a distributed job cannot evaluate another model",
                why="only one of its processes saves, and an evaluation takes all",
                fix=f"Type ftcore merge {self.run.dir} afterwards",
            )
        try:
            return self._loss(_Hushed(self.run), folder, adapter, dtype)
        finally:
            _release()

    def _loss(self, run: Any, folder: Path, adapter: Path | None, dtype: str | None) -> float:
        settings = self.config.fine_tuner
        whole = {"base_model_id": str(folder), "load_in_4bit": False, "load_in_8bit": False}
        model_settings = settings.view(ModelSettings).model_copy(update=whole | ({"dtype": dtype} if dtype else {}))
        lora = settings.view(LoraSettings).model_copy(update={"loftq_config": None})
        # With LoRA the loader adds a new adapter, which changes nothing until it is given the trained one's weights.
        model = self.stages.loader_of(run, str(folder), model_settings, lora).model()
        quiet_libraries()
        if adapter is not None:
            _give(model, adapter)
        rows = self.stages.validation_rows(run)
        trainer = self.stages.trainer(run)
        prepared = trainer.prepare(
            Examples(
                train=rows,
                validation=rows,
                formatter=self.stages.formatter(run, rows),
                tokenizer=_tokenizer(self.run.dir / "model"),
                settings=settings.view(DataSettings),
                max_length=settings.max_sequence_length,
            )
        )
        trainer.attach(model, prepared, _Nobody())
        return float(trainer.evaluate()["eval_loss"])


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise ModelError(f"the tokenizer in {folder} cannot be loaded", why=str(error)[:300]) from error


def _give(model: Any, adapter: Path) -> None:
    """Put an adapter's saved weights into the adapter that a model has."""
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    try:
        result = set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the adapter in {adapter} cannot be loaded", why=str(error)[:300]) from error
    if result.unexpected_keys:
        raise ModelError(
            f"the adapter in {adapter} is not the one that this run's settings describe",
            why=f"it has {result.unexpected_keys[0]}",
        )


def _release() -> None:
    """Give the memory of a model that nobody needs any more back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Nobody:
    """An observer of a fit that never happens."""

    def begin(self, total_steps: int, from_step: int) -> None: ...
    def step(self, step: int, tokens: int) -> None: ...
    def log(self, step: int, metrics: Any) -> None: ...
    def checkpoint(self, step: int, folder: Path) -> None: ...
    def should_stop(self) -> bool:
        return False


class _Hushed:
    """A run that writes what loader and trainer say only into its log: it was said when they did it first."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def say(self, text: str) -> None:
        note = getattr(self._run, "note", None)
        if note is not None:
            note(f"evaluating: {text}")

    warn = say
