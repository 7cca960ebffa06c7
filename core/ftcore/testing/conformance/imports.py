"""What importing a plugin brings along, seen in a process that has nothing but ftcore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from ftcore.hookspecs import PROJECT
from ftcore.plugins.discovery import PluginRecord
from ftcore.plugins.importers import HEAVY


@dataclass(frozen=True)
class Probed:
    """What an import came to.

    Attributes:
        heavy: the heavy libraries that it asked for, each with the place of the import.
        seconds: of processor time, without those.
        error: what it raised where the optional libraries are missing; empty where it needs none of them.
        missing: the library that it did not find then.
    """

    heavy: dict[str, str]
    seconds: float
    error: str
    missing: str


def probe(record: PluginRecord) -> Probed:
    """Import a plugin in a new process in which heavy and optional libraries seem not to be installed."""
    return _probe(record.target, record.distribution, os.pathsep.join(sys.path))


@lru_cache(maxsize=64)
def _probe(target: str, distribution_name: str, path: str) -> Probed:
    module = target.partition(":")[0]
    needed, optional = _libraries(distribution_name)
    own = module.partition(".")[0]
    hidden = sorted((HEAVY | optional) - needed - {own, PROJECT})
    watched = sorted(HEAVY - {own})
    command = [sys.executable, "-m", "ftcore.testing.conformance.importing", target]
    done = subprocess.run(  # noqa: S603 - our own module, in our own interpreter
        command,
        input=json.dumps({"hidden": hidden, "watched": watched}),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it ended the process"])[-1]
        return Probed({}, 0.0, f"its import ended the process with {done.returncode}: {last}", "")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # A library that the package always needs is not hidden; that it is imported at once is the other rule's.
    return Probed(answer["heavy"], answer["seconds"], answer["error"], answer["missing"])


def _libraries(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The top-level modules of what a distribution always needs, and of what its extras and ftcore's need."""
    needed = {module for requirement in _all_needed(name) for module in _modules(requirement)}
    optional = {
        module
        for distribution_name in {name, PROJECT}
        for requirement in _requirements(distribution_name, extras=True)
        for module in _modules(requirement)
    }
    return frozenset(needed), frozenset(optional - needed)


def _all_needed(name: str) -> set[str]:
    """The distributions that one always needs, and those that these need."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = set(_requirements(waiting.pop(), extras=False)) - found
        found |= new
        waiting += new
    return found


def _requirements(name: str, extras: bool) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        texts: Iterable[str] = distribution(name).requires or ()
    except PackageNotFoundError:
        return
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name != PROJECT and ("extra" in str(requirement.marker or "")) is extras:
            yield requirement.name


def _modules(name: str) -> set[str]:
    """The top-level modules of a distribution; of one that is not installed, the name that it probably has."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return {name.replace("-", "_")}
    if listed := found.read_text("top_level.txt"):
        return {line.strip() for line in listed.splitlines() if line.strip()}
    packages = {file.parts[0] for file in found.files or () if len(file.parts) == 2 and file.name == "__init__.py"}
    return packages or {name.replace("-", "_")}
