"""The access token, found without importing `huggingface_hub`, so that `ftcore check` can look for it."""

from __future__ import annotations

import os
from pathlib import Path

from ftcore.secrets import MASK, mask

_SHORTEST = 6  # as in ftcore.secrets: what is shorter occurs everywhere

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def find() -> str | None:
    """The token from the environment, else the one that `hf auth login` stored; None if there is neither."""
    for name in VARIABLES:
        if token := os.environ.get(name, "").strip():
            return token
    try:
        return token_file().read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def token_file() -> Path:
    """Where `hf auth login` keeps the token."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    path = os.environ.get("HF_TOKEN_PATH") or f"{home}/token"
    return Path(os.path.expandvars(path)).expanduser()


def malformed(token: str) -> bool:
    """Whether it has characters that cannot stand in a request's header, as after a careless paste."""
    return not all("!" <= char <= "~" for char in token)


def hide(text: str, token: str | None) -> str:
    """The text without secrets; also without a token that came from a file, which the environment does not tell."""
    return mask(text.replace(token, MASK) if token and len(token) >= _SHORTEST else text)
