"""Whether a merge has kept what the adapter had learned."""

from __future__ import annotations

from dataclasses import dataclass

from ftcore.errors import SaveError

NOISE = 0.002
"""Nats by which two evaluations of one model may differ when they round differently; a smaller loss is none."""


@dataclass(frozen=True)
class Losses:
    """Mean losses per supervised token on held-out rows, in nats.

    Attributes:
        base: of the weights that were merged into.
        adapter: of the adapter on these weights.
        merged: of the merged model.
    """

    base: float
    adapter: float
    merged: float

    @property
    def gain(self) -> float:
        """What the adapter gains over the base model."""
        return self.base - self.adapter

    @property
    def kept(self) -> float | None:
        """The share of the gain that the merged model has; None where there is none to speak of."""
        return (self.base - self.merged) / self.gain if self.gain > NOISE else None

    def keeps(self, least: float) -> bool:
        """Whether at least this share of the gain is kept, or what is lost is less than evaluations differ by."""
        lost = self.merged - self.adapter
        return least == 0 or self.kept is None or self.kept >= least or lost <= NOISE

    def told(self) -> str:
        """On one line, for people."""
        text = f"base {self.base:.4f}, adapter {self.adapter:.4f}, merged {self.merged:.4f}"
        if self.kept is None:
            return f"{text}: the adapter gains nothing on these rows, so that they cannot show what the merge keeps"
        return f"{text}: the merge keeps {100 * self.kept:.0f} % of the gain"


def require(losses: Losses, least: float, rounding: str, dtype: str) -> None:
    """Refuse a merge that loses too much.

    Raises:
        SaveError: it keeps a smaller share of the gain than `least`.
    """
    if losses.keeps(least):
        return
    assert losses.kept is not None
    lossy = rounding == "nearest" and dtype != "float32"
    cause = f"rounding to the nearest {dtype} returns a weight to where it was if its change is below half a step"
    remedy = "Round stochastically (--rounding stochastic, or rounding in [merged])"
    raise SaveError(
        f"the merge keeps {100 * losses.kept:.0f} % of what the adapter gains on the held-out rows, and was refused",
        why=f"{losses.told()}, and {100 * least:g} % are asked for"
        + (f"; {cause}" if lossy else "; these may not be the weights that the adapter was trained on"),
        fix=(remedy if lossy else "Name the base model with --base")
        + ", keep float32 (--dtype fp32), ship the adapter itself, or type ftcore merge RUN --force",
    )
