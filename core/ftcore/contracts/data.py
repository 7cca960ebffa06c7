"""Where rows come from, and what is known of them before they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ftcore.settings.data import DataSettings


@dataclass(frozen=True)
class Locator:
    """An id of a dataset or a model: `[prefix:]path[?option=value&...]`.

    Attributes:
        text: the id as it was configured, for messages.
        path: the id without its prefix and options.
        options: what stands behind the question mark, e.g. `{"split": "train", "name": "main"}`.
    """

    text: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataRequest:
    """What a data source is asked for.

    Attributes:
        locator: which dataset.
        purpose: the default choice of a split depends on it.
        num_proc: how many processes may be used, at least 1.
        seed: for sources that sample.
        base_dir: the folder of the configuration file; relative paths that do not exist from the working directory
            are looked up from here.
    """

    locator: Locator
    purpose: Literal["training", "validation"]
    num_proc: int
    seed: int
    base_dir: Path


@dataclass(frozen=True)
class DataView:
    """What a formatter may know before it reads rows.

    Attributes:
        columns: the column names of the training data.
        settings: the data keys of `[fine_tuner]`.
        sample: the first rows (at most 8), for plugins that look at shapes rather than names.
    """

    columns: Sequence[str]
    settings: DataSettings
    sample: Sequence[Mapping[str, Any]] = ()
