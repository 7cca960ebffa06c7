"""The loss on supervised tokens, without computing what is thrown away.

A causal language model's own forward makes logits for every position. With responses supervised only, a good part of
them is masked, and the head's matrix (vocabulary × hidden) is a small model's largest. Here the head sees just the
positions whose next token is supervised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftcore_sft.labels import IGNORED

_TOLERANCE = 0.02  # in nats; the two ways round differently in bfloat16


class SupervisedLoss:
    """Cross entropy, summed over the supervised tokens of a batch.

    Args:
        model: a causal language model, with or without an adapter.
        sample: a small batch, on which the short way is compared with the model's own loss. Where they differ (a
            model that scales or caps its logits), the model's own forward is used from then on.
    """

    def __init__(self, model: Any, sample: Mapping[str, Any]) -> None:
        self._causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._short = self._agrees(model, sample)

    @property
    def short(self) -> bool:
        """Whether masked positions are left out of the head."""
        return self._short

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """The summed loss (float32 scalar) and the number of supervised tokens (int64 scalar).

        A model wrapped for distributed training is called as a whole: its wrapper has to see the forward.
        """
        batch = _with_segments(batch)
        if self._short and (model is self._causal or hasattr(model, "get_base_model")):
            return self._short_way(batch)
        if self._short and type(model).__name__ == "DistributedDataParallel":
            return self._through(model, batch)
        return _own_way(model, batch)

    def _through(self, wrapper: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """The short way as the forward of the wrapped model, with all that the wrapper does before and behind it."""
        inner = wrapper.module
        before = inner.__dict__.get("forward")  # accelerate may have put one there
        inner.forward = lambda **batch: self._short_way(batch)
        try:
            return wrapper(**batch)  # type: ignore[no-any-return]
        finally:
            if before is None:
                del inner.forward
            else:
                inner.forward = before

    def _short_way(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        from ftcore_sft.head_loss import head_loss

        inputs = {key: value for key, value in batch.items() if key != "labels"}
        hidden = self._causal.get_decoder()(**inputs, use_cache=False).last_hidden_state
        targets = batch["labels"][:, 1:]
        supervised = targets != IGNORED
        head = self._causal.get_output_embeddings()
        return head_loss(head, hidden[:, :-1][supervised], targets[supervised]), supervised.sum()

    def _agrees(self, model: Any, sample: Mapping[str, Any]) -> bool:
        import torch

        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                short, count = self._short_way(sample)
                own, _ = _own_way(model, sample)
        except (AttributeError, TypeError, NotImplementedError):
            return False
        finally:
            model.train(training)
        return bool(count > 0 and abs(short - own) / count < _TOLERANCE)


def _with_segments(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The borders of a batch's segments as the attention function takes them: plain numbers, once for all layers."""
    if "borders" not in batch:
        return batch
    from ftcore_sft import cpu_attention

    rest = {key: value for key, value in batch.items() if key != "borders"}
    return {**rest, **cpu_attention.options(batch["borders"].tolist())}


def _own_way(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model's own loss, a mean over the supervised tokens, as a sum."""
    count = (batch["labels"][:, 1:] != IGNORED).sum()
    loss = model(**batch, use_cache=False).loss
    return (loss * count).where(count > 0, 0.0), count  # the mean over nothing is no number
