"""Who serves a stage of a run that the configuration leaves on "auto"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["launcher", "loader", "formatter", "trainer", "saver", "reporter", "data", "model", "namer"]
"""The replaceable parts of a run."""


@dataclass(frozen=True)
class Bid:
    """An offer to serve a stage that the configuration leaves on "auto".

    Attributes:
        rank: the highest rank wins; two equal highest ranks are an error. Built-in plugins use 10 to 30.
        reason: why this plugin suits, shown to the user.
    """

    rank: int
    reason: str


@dataclass(frozen=True)
class Declined:
    """A plugin could serve a stage that the configuration leaves on "auto", but not here, and says why.

    Attributes:
        reason: what is in the way, shown by `ftcore plugins why` and `ftcore doctor`.
    """

    reason: str
