"""`ftcore cache` and `ftcore cache prune`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from ftcore.cache import Entry

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def _age(context: click.Context, option: click.Parameter, text: str) -> float:
    """A length of time like 30d or 12h, in seconds."""
    match = re.fullmatch(r"(\d{1,9})([mhdw])", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is no age: write 30d, 12h, 90m or 2w", context, option)
    return float(int(match[1]) * _SECONDS[match[2]])


@click.group(invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """List what is kept to save time: prepared data, converted models.

    The folder is $FTCORE_CACHE, or ftcore in $XDG_CACHE_HOME or ~/.cache. Everything in it is made again when it is
    needed.
    """
    if context.invoked_subcommand is not None:
        return
    from ftcore.cache import entries
    from ftcore.errors import ConfigError

    folder = _folder()
    try:
        found = entries()
    except OSError as error:
        why = f"{error.filename or folder}: {error.strerror or error}"
        raise ConfigError("the cache cannot be read", why=why, fix="Name another folder in FTCORE_CACHE") from error
    click.echo(f"{folder}: {_summary(found)}")
    for entry in found:
        click.echo(_line(entry))


@cache.command()
@click.option(
    "--older-than", callback=_age, default="30d", metavar="AGE", help="Remove what was not used for so long (30d)."
)
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
def prune(older_than: float, everything: bool) -> None:
    """Remove what was not used for a while."""
    from ftcore import cache as caches
    from ftcore.errors import DiskError

    _folder()
    try:
        removed = caches.prune(0 if everything else older_than)
    except OSError as error:
        raise DiskError(
            "the cache cannot be pruned", why=f"{error.filename}: {error.strerror}", fix="Change its permissions"
        ) from error
    for entry in removed:
        click.echo(_line(entry))
    click.echo(f"removed {_summary(removed)}")


def _folder() -> Path:
    from ftcore.cache import cache_folder
    from ftcore.errors import ConfigError

    folder = cache_folder()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"the cache {folder} is no folder", fix="Name another one in FTCORE_CACHE")
    return folder


def _summary(found: list[Entry]) -> str:
    if not found:
        return "nothing"
    return f"{len(found)} {'entry' if len(found) == 1 else 'entries'}, {_size(sum(entry.size for entry in found))}"


def _line(entry: Entry) -> str:
    from ftcore.cache import cache_folder

    name = entry.folder.relative_to(cache_folder())
    return f"  {_size(entry.size):>10}  used {_ago(time.time() - entry.used_at):<12}  {entry.kind}: {entry.source} ({name})"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _ago(seconds: float) -> str:
    for name, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
