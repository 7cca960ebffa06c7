"""The tokenizer and the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase


class Loader(Protocol):
    """Loads the tokenizer first, which is cheap, then the model."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer with a chat template and a pad token that is not an EOS token where there is a choice.

        Raises:
            ModelError: it cannot be loaded, or has no chat template.
        """

    def model(self) -> Module:
        """The model with its adapter, in training mode, on its device.

        Raises:
            ModelError: it cannot be loaded as configured.
        """
