"""The command line: `ftcore COMMAND`. Each command has a module of its own, imported when it is used."""

from ftcore.cli.main import main

__all__ = ["main"]
