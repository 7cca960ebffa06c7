"""What the run tolerates in its data before it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftcore.settings.base import Section

Share = Annotated[float, Field(ge=0, le=1)]

Check = Literal[
    "truncated",
    "cut_prompts",
    "unsupervised",
    "unended",
    "stop_token",
    "double_bos",
    "duplicates",
    "overlap",
    "supervised_share",
    "length",
    "warmup",
]
"""What the audit looks for, besides what no training could do without."""


class AuditSettings(Section):
    """The `[audit]` section: what may be wrong with the data before the run stops. What is found up to a limit is a
    warning, and above it an error, so a limit of 0 allows nothing and a limit of 1 never stops the run. All findings are told
    at once, before the model is loaded; `ftcore check CONFIG --data` tells them without a run."""

    ignore: list[Check] = []
    """Checks that are not made. Their names stand with the limits below; `stop_token` (answers end with a token at which
    the model does not stop generating) and `warmup` (the warm-up is longer than the training) only warn and have none."""

    bad_rows: Literal["skip", "stop"] = "skip"
    """What happens to a row with an empty, null or non-text cell: it is skipped and counted, or stops the run."""

    max_bad_rows: Share = 0.01
    """The share of bad rows above which the run stops, even if they would be skipped."""

    max_truncated: Share = 0.05
    """The share of training examples cut at `max_sequence_length` above which the run stops (`truncated`)."""

    max_cut_prompts: Share = 0.01
    """The share of training examples whose prompt alone fills `max_sequence_length`, so that nothing of the answer is left
    to learn, above which the run stops (`cut_prompts`)."""

    max_unsupervised: Share = 0.05
    """The share of training examples without a token to learn, for another reason than their length, above which the run
    stops (`unsupervised`). That no example has one always stops it."""

    max_unended: Share = 0.05
    """The share of training examples whose answer ends without an EOS or end-of-turn token to learn, above which the run
    stops (`unended`): a model that never learns it does not stop answering. Examples that were cut are not counted."""

    max_double_bos: Share = 0.0
    """The share of training examples that begin with two BOS tokens above which the run stops (`double_bos`)."""

    max_duplicates: Share = 1.0
    """The share of training examples that equal an earlier one above which the run stops (`duplicates`)."""

    max_overlap: Share = 1.0
    """The share of validation examples that are training examples too above which the run stops (`overlap`)."""

    min_supervised_share: Share = 0.01
    """The share of all training tokens that are learned, below which there is a warning (`supervised_share`)."""

    max_supervised_share: Share = 0.99
    """The same share with `train_on_responses_only`, above which there is a warning (`supervised_share`)."""

    max_length_ratio: Annotated[float, Field(ge=1)] = 8.0
    """How many times longer than 95 % of the training examples the longest may be without a warning (`length`): it alone
    decides how much memory is needed. Examples of up to 512 tokens, and packed ones, are not compared."""

    @classmethod
    def changeable(cls) -> frozenset[str]:
        return frozenset(cls.model_fields)  # the examples themselves are compared
