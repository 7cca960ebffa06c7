"""ftcore: fine-tuning of language models, every stage a plugin."""

from importlib.metadata import PackageNotFoundError, version

from ftcore.hookspecs import hookimpl

try:
    __version__ = version("ftcore")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__", "hookimpl"]
