"""The section `[merged]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftcore.settings import Section


class MergedSettings(Section):
    """How the saver `merged`, and `ftcore merge`, put an adapter into its base model's weights."""

    dtype: Literal["float16", "bfloat16", "float32"] | None = None
    """The type of the merged weights. Null keeps the type that the base model is stored in; bfloat16 where that is quantized."""

    rounding: Literal["stochastic", "nearest"] = "stochastic"
    """How changed weights become bfloat16 or float16. `stochastic` goes up or down with the probability of the remainder, so that changes smaller than half a step are kept on average; `nearest` loses them."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Decides the stochastic rounding: the same seed gives the same weights, bit by bit."""

    least_gain: Annotated[float, Field(ge=0, le=1)] = 0.9
    """A merge that keeps a smaller share of what the adapter gains on the held-out rows is refused. 0 refuses none (`ftcore merge --force`)."""

    base: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A folder, or a Hub id, with the full-precision weights to merge into. Null takes those of `base_model_id`."""
