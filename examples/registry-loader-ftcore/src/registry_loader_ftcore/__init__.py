"""The plugin `registry`: models by name and version, from the place where a company keeps them.

It finds, checks and caches a model; loading it is left to whichever loader the configuration has.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ftcore import hookimpl
from ftcore.contracts import Loader, Locator, Run
from ftcore.errors import ModelError, Problem
from ftcore.settings import Section

if TYPE_CHECKING:
    from ftcore.config import Config
    from registry_loader_ftcore.store import Store

TOKEN = "REGISTRY_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the registry's access token, if it wants one."""


class RegistrySettings(Section):
    """The `[registry]` section. The access token is no setting: it comes from `REGISTRY_TOKEN`."""

    url: Annotated[str, Field(min_length=1)]
    """Where the registry is: `https://…`, or a folder with the same files."""

    stage: Annotated[str, Field(min_length=1)] = "production"
    """The stage that an id without `@` means."""

    timeout: Annotated[float, Field(gt=0)] = 30.0
    """How many seconds the registry may be silent."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if "://" in value and parts.scheme not in ("https", "http"):
            raise ValueError("the registry's address begins with https:// or http://, or is a folder")
        if parts.username or parts.password:
            raise ValueError(f"the registry's address holds no user or password; the token comes from {TOKEN}")
        return value


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[registry]` section."""
    return RegistrySettings


@hookimpl
def ftcore_preflight(config: Config, settings: RegistrySettings) -> Iterator[Problem]:
    """Is there such a model? Asked before the run directory is made; nothing is downloaded yet."""
    try:
        _store(settings).find(config.fine_tuner.base_model_id.partition(":")[2])
    except ModelError as error:
        yield Problem("fine_tuner.base_model_id", f"{error.what}: {error.why}", error.fix)


@hookimpl
def ftcore_resolve_model(locator: Locator, settings: RegistrySettings) -> str:
    """`registry:assistant@production`, or `@7` for a version, as a local folder."""
    if locator.options:
        raise ModelError(f'there is no model "{locator.text}"', fix="Leave out the question mark and what follows it")
    store = _store(settings)
    return str(store.folder(store.find(locator.path)))


@hookimpl(wrapper=True)
def ftcore_make_loader(run: Run, source: str) -> Generator[None, Loader, Loader]:
    """Around any loader: note which version the run gets, and that it does not get another one later."""
    from registry_loader_ftcore.provenance import note

    note(run, source)
    return (yield)


def _store(settings: RegistrySettings) -> Store:
    from registry_loader_ftcore.store import Store

    return Store(settings.url, settings.stage, settings.timeout, os.environ.get(TOKEN))
