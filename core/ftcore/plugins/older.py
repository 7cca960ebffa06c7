"""Calling what was written for an older ftcore.

A hook may leave out arguments, so hooks grow by arguments. The methods of the objects that hooks return grow the same
way: by arguments at the end, which are left out where a method does not take them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


def call(method: Callable[..., ResultT], *arguments: object) -> ResultT:
    """Call a method with the first of the arguments, as many as it takes."""
    try:
        signature = inspect.signature(method)
    except (ValueError, TypeError):  # written in C: it takes what the contract says today
        return method(*arguments)
    for count in range(len(arguments), 0, -1):
        try:
            signature.bind(*arguments[:count])
        except TypeError:
            continue
        return method(*arguments[:count])
    return method(*arguments)  # it takes none of them as they come; Python says what is wrong
