"""From conversations to tokens and labels, and from those to a trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

    from ftcore.contracts.formatter import Conversation, Formatter
    from ftcore.settings.data import DataSettings


IGNORED = -100
"""The label of a token that is not trained on (PyTorch's cross entropy ignores it by default)."""


@dataclass(frozen=True)
class Examples:
    """What a trainer turns into tokens and labels.

    Attributes:
        train: the training rows (a `datasets.Dataset`).
        validation: the validation rows, if any.
        formatter: row to conversation.
        tokenizer: the tokenizer, its chat template set.
        settings: the data keys of `[fine_tuner]`.
        max_length: the longest sequence in tokens.
        samples: how many of the first validation conversations to return with the prepared data.
    """

    train: Dataset
    validation: Dataset | None
    formatter: Formatter
    tokenizer: PreTrainedTokenizerBase
    settings: DataSettings
    max_length: int
    samples: int = 0


@dataclass(frozen=True)
class BadRows:
    """Rows of one dataset that could not be made into examples, and were left out.

    Attributes:
        purpose: which dataset.
        count: how many.
        rows: of how many, the usable ones included.
        first: some of them, each as (its number in the data, from 0; why it cannot be used).
    """

    purpose: Literal["training", "validation"]
    count: int
    rows: int
    first: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Prepared:
    """Tokens and labels, ready to train on.

    Attributes:
        train: a `datasets.Dataset` with `input_ids` and `labels`, both lists of int of equal length; a label of
            `IGNORED` is not trained on. Three more columns of int are read where they are there: `row`, the row's number
            in the data that it was made from; `lost`, how many tokens were cut off; and `lost_supervised`, how many
            of those would have been trained on.
        validation: the same for validation, if any.
        sample: conversations of the first validation rows, for answers before and after training.
        facts: counts for the manifest, the model card and the reporters (rows, tokens, supervised tokens, …).
        examples: where `train` holds packed sequences, the training examples one by one, as `train` else does.
        order: gives the order in which the rows of `train` fill the first epoch's batches; None where it is any.
        bad_rows: what was left out, one for each dataset that has any. The run tells of them, together with all else that is
            wrong with the data, and stops where `[audit]` does not allow so many; a trainer that leaves this empty has
            to do both.
    """

    train: Dataset
    validation: Dataset | None
    sample: Sequence[Conversation] = ()
    facts: Mapping[str, int | float | str] = field(default_factory=dict)
    examples: Dataset | None = None
    order: Callable[[], Sequence[int]] | None = None
    bad_rows: Sequence[BadRows] = ()


@dataclass(frozen=True)
class BatchShape:
    """The size of a batch of one forward pass.

    Attributes:
        rows: sequences.
        length: tokens of each, padding included.
        supervised: positions whose logits are computed.
        padded: its sequences differ in length (or are packed), so that attention needs a mask.
    """

    rows: int
    length: int
    supervised: int
    padded: bool


Device = Literal["cpu", "cuda"]
"""A kind of device to train on."""


LossTracer = Callable[["Module", Device], "Callable[[BatchShape], Tensor] | None"]
"""Makes a model without contents compute as a trainer would on that kind of device, and returns what computes a batch's
loss; None leaves both to the model itself (see the hook `ftcore_trace_loss`)."""


@dataclass(frozen=True)
class FitResult:
    """What training came to.

    Attributes:
        steps: optimizer steps taken in all.
        epochs: passes over the data, fractional.
        metrics: the trainer's closing metrics, e.g. `train_loss`.
        status: "interrupted" where training stopped early on request.
    """

    steps: int
    epochs: float
    metrics: Mapping[str, float]
    status: Literal["finished", "interrupted"] = "finished"


class Observer(Protocol):
    """What a trainer tells the run while it fits."""

    def begin(self, total_steps: int, from_step: int) -> None:
        """Fitting starts at `from_step` (0 unless resumed) and will take `total_steps` in all."""

    def step(self, step: int, tokens: int) -> None:
        """An optimizer step ended; `tokens` went through the model in it, padding not counted."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics at a step; names are the ones of transformers' Trainer (`loss`, `eval_loss`, …)."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """A complete checkpoint of `step` lies in `folder`."""

    def should_stop(self) -> bool:
        """Whether the user asked for a stop after this step."""


class Trainer(Protocol):
    """Prepares examples, fits and evaluates. Called in the order of its methods."""

    def prepare(self, examples: Examples) -> Prepared:
        """Tokens and labels, before the model is loaded.

        Raises:
            DataError: nothing could be prepared; or too many rows are bad, unless `Prepared.bad_rows` tells of them.
        """

    def attach(self, model: Module, prepared: Prepared, observer: Observer) -> None:
        """Get ready to fit this model on these data."""

    def evaluate(self) -> Mapping[str, float]:
        """Metrics on the validation data, `eval_loss` among them; empty without validation data."""

    def fit(self, resume_from: Path | None) -> FitResult:
        """Train, from a checkpoint folder if one is given: to the same result as if it had not stopped there.

        Checkpoints are written with `ftcore.checkpoints.writing` to `<run>/checkpoints/checkpoint-<step>`, the last one
        after the last step or after a stop; only those are given back. Given the one of the last step, the model
        is brought to where it says, and nothing is trained.

        Raises:
            TrainingError: training could not go on.
        """

    def generate(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        """The model's answers, greedy, to conversations that end with a user's turn."""


@dataclass(frozen=True)
class Rehearsed:
    """The batch that a trainer rehearsed.

    Attributes:
        rows: sequences in it.
        tokens: of all its sequences, padding included.
    """

    rows: int
    tokens: int


class Rehearsing(Protocol):
    """What a trainer may have besides the methods of `Trainer`."""

    def rehearse(self, part: Literal["training", "evaluation"]) -> Rehearsed | None:
        """Compute the largest batch that training (forward and backward) or evaluation (forward) will meet.

        Called once for each part behind `attach` and before anything else, where `[run] dry_step` is true; the
        caller measures the memory. Nothing may be different afterwards: no weight, no gradient, no random state, so
        that training goes the same way with and without it. Returns None where there is no such batch.
        """
