"""Which data, and what their columns mean."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ftcore.settings.base import Section


class DataSettings(Section):
    """The data keys of `[fine_tuner]`."""

    # The rows themselves are compared, wherever they come from, and so are the examples that they became.
    may_change: ClassVar = frozenset(
        {
            "training_data_id",
            "validation_data_id",
            "dataset_num_proc",
            "question_column",
            "ground_truth_column",
            "system_prompt_column",
            "system_prompt_override_text",
        }
    )

    training_data_id: Annotated[str, Field(min_length=1, max_length=4096)]
    """The training data: a file (json, jsonl, csv, parquet, arrow, each also gzipped), a folder written by `save_to_disk`, a Hugging Face dataset id, or `prefix:locator` for a plugin. Options follow a question mark: `user/data?name=main&split=train`."""

    validation_data_id: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """The validation data, named the same way. Null trains without evaluation."""

    dataset_num_proc: Annotated[int, Field(ge=1, le=1024)] = 4
    """At most so many processes prepare the data. Never more than there are cores, nor than the data are worth."""

    question_column: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """The column with the question or instruction. Null leaves it to the formatter (`question`, or `instruction`)."""

    ground_truth_column: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """The column with the answer. Null leaves it to the formatter (`answer`, or `output`)."""

    system_prompt_column: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """The column with a system prompt for each row. Null: a column named `system` is used where there is one."""

    system_prompt_override_text: str | None = None
    """One system prompt for all rows, instead of the column's."""
