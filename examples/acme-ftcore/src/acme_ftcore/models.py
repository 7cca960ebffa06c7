"""The model source `acme:<name>`: folders of Acme's model store."""

from __future__ import annotations

from pathlib import Path

from acme_ftcore.settings import AcmeSettings
from ftcore.contracts import Locator
from ftcore.errors import ModelError


def model_folder(locator: Locator, settings: AcmeSettings) -> Path:
    """The folder of a model.

    Raises:
        ModelError: the store has no such model.
    """
    store = settings.model_store.expanduser()
    names = sorted(config.parent.name for config in store.glob("*/config.json"))
    if locator.path not in names or locator.options:
        raise ModelError(
            f'there is no model "{locator.text}"',
            why=f"the store {store} has {', '.join(names) or 'none'}",
            fix="Name one of these, or set [acme] model_store",
        )
    return store / locator.path
