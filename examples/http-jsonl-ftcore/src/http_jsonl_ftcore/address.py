"""From an id to the address that it means."""

from __future__ import annotations

from urllib.parse import urlsplit

from ftcore.errors import ConfigError


def address(data_id: str) -> str:
    """All behind the prefix, a query included: `http-jsonl:https://data.acme.example/tickets.jsonl?month=10`.

    Raises:
        ConfigError: that is no address, or has a user and a password in it.
    """
    url = data_id.partition(":")[2]
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        known = False
    if not known:
        why = "behind http-jsonl: stands the address of a file of JSON lines"
        raise ConfigError(f'"{data_id}" cannot be read', why=why, fix="Write http-jsonl:https://host/path.jsonl")
    if "@" in parts.netloc:
        # Ids are written into run directories and model cards.
        why = "an id is written down in many places"
        raise ConfigError(f"the address of {parts.hostname} has a user in it", why=why, fix="Use a token")
    return url
