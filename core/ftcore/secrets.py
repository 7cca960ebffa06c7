"""Keeping secrets out of everything that is shown or written.

Secrets reach a run through the environment only. Whatever value an environment variable with a telling name has is
replaced wherever ftcore writes text, as are the user and password of a URL, and what looks like a Hub token.
"""

from __future__ import annotations

import os
import re
from typing import Any

MASK = "***"

_TELLING = re.compile(r"TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL", re.IGNORECASE)
_IN_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s?#\"']*@", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_SHORTEST = 6  # masking "1" or "true" wherever it occurs would make logs unreadable and protect nothing


def secret_values() -> list[str]:
    """The values to mask, longest first, so that one secret inside another leaves nothing behind."""
    values = {
        value
        for name, value in os.environ.items()
        if _TELLING.search(name) and len(value) >= _SHORTEST and not value.isdecimal()
    }
    return sorted(values, key=len, reverse=True)


def mask(text: str) -> str:
    """The text without secrets."""
    for value in secret_values():
        text = text.replace(value, MASK)
    return _HUB_TOKEN.sub(MASK, _IN_URL.sub(rf"\g<scheme>{MASK}@", text))


def masked(value: Any) -> Any:
    """The value, and all texts inside it, without secrets."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value
