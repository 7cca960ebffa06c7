"""What can be known about a push without asking the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import takewhile
from typing import TYPE_CHECKING

from ftcore.errors import Problem
from ftcore_hub import tokens

if TYPE_CHECKING:
    from ftcore.config import Config
    from ftcore_hub.settings import HubSettings

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def problems(config: Config, settings: HubSettings) -> Iterator[Problem]:
    """What is missing for a push that the configuration wants."""
    if config.fine_tuner.push_to_hub or "hub" in (config.stages.savers or ()):
        yield from _unmerged(config, settings)
    if config.fine_tuner.push_to_hub:
        yield from _missing("fine_tuner.push_to_hub", "push_to_hub is true")
    elif "hub" in (config.stages.savers or ()):
        yield from _missing("stages.savers", "[stages] savers names hub")


def _unmerged(config: Config, settings: HubSettings) -> Iterator[Problem]:
    """Will there be a merged model when it is pushed?"""
    if settings.pushes != "merged":
        return
    before = list(takewhile(lambda name: name != "hub", config.stages.savers or ()))
    if config.fine_tuner.full_finetuning:
        yield Problem(
            "hub.pushes",
            'pushes is "merged" and full_finetuning is true: there is no adapter to merge',
            "Remove pushes",
        )
    elif "merged" not in before:
        yield Problem(
            "hub.pushes",
            'pushes is "merged" and [stages] savers does not name merged before hub: there would be nothing to push',
            'Set savers = ["local", "merged", "hub"] in [stages]',
        )


def _missing(where: str, wanted: str) -> Iterator[Problem]:
    if find_spec("huggingface_hub") is None:
        yield Problem(where, f"{wanted} and huggingface_hub is not installed", "Type: pip install 'ftcore[hub]'")
    token = tokens.find()
    if token is None:
        yield Problem(
            where,
            f"{wanted} and there is no access token: HF_TOKEN is not set and `hf auth login` stored none",
            "Set HF_TOKEN to a token that can write, or remove push_to_hub and hub from savers",
        )
    elif tokens.malformed(token):
        yield Problem(
            where,
            f"{wanted} and the access token (HF_TOKEN) has spaces or characters that no token has",
            "Set HF_TOKEN again, to the token alone",
        )
    for name in _OFFLINE:
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            yield Problem(where, f"{wanted} and {name} forbids the Hub", f"Unset {name}, or remove push_to_hub")
