"""The trained model, and where it is put."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol


class Trained(Protocol):
    """The trained model, as savers see it."""

    @property
    def kind(self) -> Literal["adapter", "full"]: ...
    @property
    def base_model_id(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def model(self) -> Any: ...
    @property
    def tokenizer(self) -> Any: ...
    def export(self, folder: Path) -> Path:
        """Write the model (or adapter), the tokenizer with its chat template and the model card into `folder`.

        The folder appears complete or not at all; one that is already there is replaced.
        """


class HeldOut(Protocol):
    """The run's held-out rows, for savers that write other weights than those that were trained."""

    @property
    def rows(self) -> str:
        """Where they come from: the id of the validation data; empty where there are none."""

    def source(self) -> str:
        """The folder, file or Hub id that `base_model_id` stands for.

        Raises:
            ModelError: there is no such model.
        """

    def loss(self, folder: Path, *, adapter: Path | None = None, dtype: str | None = None) -> float:
        """The mean loss per supervised token of the model in a folder, in nats, on the held-out rows.

        It is loaded, unquantized, by the run's loader, and evaluated by its trainer, with the run's settings and with
        the tokenizer in `<run>/model`.

        Args:
            folder: a whole model.
            adapter: the folder of the run's adapter, to be used with it.
            dtype: of the weights ("bfloat16", "float16", "float32"); None leaves it to the run's settings.

        Raises:
            FtcoreError: there are no rows, or the model cannot be loaded or evaluated here.
        """


@dataclass(frozen=True)
class Saved:
    """What a saver wrote.

    Attributes:
        what: e.g. "adapter".
        where: a path or a URL.
    """

    what: str
    where: str
