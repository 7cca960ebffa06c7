"""How the model is trained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftcore.settings.base import Section


class TrainingSettings(Section):
    """The training keys of `[fine_tuner]`."""

    may_change: ClassVar = frozenset({"device_validation_batch_size"})

    epochs: Annotated[int, Field(gt=0, le=100_000)] | Annotated[float, Field(gt=0, le=100_000)] = 30
    """How often the training data are passed over; a fraction is allowed."""

    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.0002
    """The highest learning rate."""

    device_train_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Examples per device and forward pass in training."""

    device_validation_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Examples per device and forward pass in evaluation."""

    grad_accumulation: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Forward passes whose gradients are summed for one optimizer step. The loss is averaged over all their supervised tokens, so 4 × 1 and 1 × 4 learn the same."""

    warmup_steps: Annotated[int, Field(ge=0)] = 5
    """Optimizer steps in which the learning rate rises from 0."""

    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """What the learning rate does after the warm-up: fall to 0 in a straight line or along a cosine, or stay."""

    optimizer: Annotated[str, Field(min_length=1)] = "paged_adamw_8bit"
    """An optimizer by transformers' name. The `paged` and `8bit` ones need bitsandbytes, and pages need a GPU; where one cannot run, the nearest that can is used and the run says so (see `[sft] optimizer_fallback`)."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Decoupled weight decay (AdamW)."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 42
    """Seeds the adapter's weights, the order of the data and the dropout."""

    packing: bool = False
    """Fill each sequence with several examples, isolated from each other, instead of padding."""

    train_on_responses_only: bool = True
    """Learn the assistant's turns only. False learns every token of the conversation."""

    question_part: Annotated[str, Field(min_length=1)] | None = None
    """The text that opens a user's turn in the chat template. Null reads it off the template."""

    answer_part: Annotated[str, Field(min_length=1)] | None = None
    """The text that opens an assistant's turn in the chat template. Null reads it off the template."""
