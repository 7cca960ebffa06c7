"""What goes away: a line for the user, and a warning at the line that the plugin's author has to change.

A hook, or an argument of one, is marked in its specification, which is pluggy's own way:

    @hookspec(warn_on_impl=goes_away("the hook ftcore_old", since="1.2", removed_in="2.0", instead="ftcore_new"))
    @hookspec(warn_on_impl_args={"saving": goes_away("the argument saving", ...)})

A public name that has another one now is found by `renamed_names`; a configuration's key by `Section.renamed_keys`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ftcore.errors import FtcoreDeprecationWarning


def goes_away(what: str, *, since: str, removed_in: str, instead: str) -> FtcoreDeprecationWarning:
    """The warning about something public, as every one of them reads.

    Args:
        what: with its kind, like "the hook ftcore_old".
        since: the version that said so first.
        removed_in: the first version without it.
        instead: what to use.
    """
    return FtcoreDeprecationWarning(
        f"{what} goes away in ftcore {removed_in} (deprecated since {since}): use {instead}"
    )


def renamed_names(module: str, names: Mapping[str, tuple[str, FtcoreDeprecationWarning]]) -> Callable[[str], Any]:
    """The `__getattr__` of a module that finds old names under new ones, and warns at the line that uses them.

        __getattr__ = renamed_names(__name__, {"Tokens": ("Prepared", goes_away("the type Tokens", ...))})

    Args:
        module: its `__name__`.
        names: by old name, the new one in the same module, and what to say.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new, warning = names[name]
        warnings.warn(warning, stacklevel=2)
        return getattr(sys.modules[module], new)

    return find


@contextmanager
def noticed(lines: list[str]) -> Iterator[None]:
    """Append to `lines` what is used inside the block and goes away, once each, as `file:line: what`.

    Everything that was warned of is warned of again behind the block, by the filters that are in force: Python shows
    nobody a DeprecationWarning of a library, pytest shows it to authors, and `-W error` makes it an error.
    """
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FtcoreDeprecationWarning)
            yield
    finally:
        used = [found for found in caught if issubclass(found.category, FtcoreDeprecationWarning)]
        lines += dict.fromkeys(f"{found.filename}:{found.lineno}: {found.message}" for found in used)
    for found in caught:
        warnings.warn_explicit(found.message, found.category, found.filename, found.lineno)
