"""The `[file]` section."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import Field, field_validator

from ftcore.settings.base import Section


class FileSettings(Section):
    """How data files are read."""

    encoding: str = "utf-8"
    """The encoding of text files (JSON, CSV, TSV), by Python's name for it. A byte order mark is understood."""

    csv_delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """The character between the cells of a CSV file. Null: a comma in `.csv`, a tab in `.tsv`."""

    text_columns: list[Annotated[str, Field(min_length=1)]] = []
    """Columns that are read as text whatever they hold: a number becomes its JSON text, null stays null. For labels like 0 and 1, and for columns of mixed types."""

    cache_dir: str | None = None
    """Where data that are too large for memory are kept as Arrow files. Null: ftcore's own cache, which `ftcore cache` lists and prunes."""

    memory_limit_mb: Annotated[int, Field(ge=0)] = 32
    """Data larger than so many MiB are kept on disk and mapped into memory, not loaded; the next run finds them there."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except (LookupError, ValueError):
            raise ValueError("Python knows no encoding of this name") from None
