"""The data source `http-jsonl:https://…`: training data as JSON lines from any web server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftcore import hookimpl
from ftcore.contracts import DataRequest
from ftcore.errors import ConfigError, Problem
from ftcore.settings import Section
from http_jsonl_ftcore.address import address
from http_jsonl_ftcore.settings import HttpJsonlSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from ftcore.config import Config


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[http-jsonl]` section."""
    return HttpJsonlSettings


@hookimpl
def ftcore_check(config: Config) -> Iterator[Problem]:
    """An id that is no address is found before the run; the server is not asked yet."""
    for key in ("training_data_id", "validation_data_id"):
        data_id = getattr(config.fine_tuner, key)
        if data_id is not None and data_id.startswith("http-jsonl:"):
            try:
                address(data_id)
            except ConfigError as error:
                yield Problem(f"fine_tuner.{key}", f"{error.what}: {error.why}", error.fix)


@hookimpl
def ftcore_load_dataset(request: DataRequest, settings: HttpJsonlSettings) -> Dataset:
    """The rows behind the address: from the cache where the server says that nothing has changed."""
    from http_jsonl_ftcore.source import load

    return load(address(request.locator.text), settings)
