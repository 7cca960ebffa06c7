"""The optional parts of ftcore's own wheel."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

_NO_PLUGINS = frozenset({"all", "dev", "docs", "fuzz", "quantization", "test", "train"})


def install_command(plugin: str) -> str:
    """What installs a plugin of this name with ftcore, or an empty text where none is known."""
    try:
        known = set(metadata("ftcore").get_all("Provides-Extra") or ())
    except PackageNotFoundError:
        return ""
    return f"pip install 'ftcore[{plugin}]'" if plugin in known - _NO_PLUGINS else ""
