"""What the run tolerates in its data before it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftcore.settings.base import Section

Share = Annotated[float, Field(ge=0, le=1)]


class AuditSettings(Section):
    """The `[audit]` section: limits on what may be wrong with the data."""

    bad_rows: Literal["skip", "stop"] = "skip"
    """What happens to a row with an empty, null or non-text cell: it is skipped and counted, or stops the run."""

    max_bad_rows: Share = 0.01
    """The share of bad rows above which the run stops, even if they would be skipped."""

    max_truncated: Share = 0.05
    """The share of training examples cut at `max_sequence_length` above which the run stops."""
