"""What a wheel asks for and nothing else, taken over from this interpreter's packages by links.

pip would unpack the same gigabytes again. A package that the wheel needs and does not name is missing here, too.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def link_requirements(wheel: Path, extra: str, site: Path) -> None:
    """Put what the wheel with an extra needs into a folder `site-packages`, but not the wheel itself.

    Raises:
        AssertionError: the version here is outside a range that the wheel, or something it needs, names.
        importlib.metadata.PackageNotFoundError: something is not installed here.
    """
    with zipfile.ZipFile(wheel) as file:
        (info,) = (path for path in zipfile.Path(file).iterdir() if path.name.endswith(".dist-info"))
        for found in _needed(PathDistribution(info), {extra}):  # type: ignore[arg-type]
            link(found, site)


def _needed(root: Distribution, extras: set[str]) -> Iterator[Distribution]:
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    waiting = [(root, extra) for extra in {"", *extras}]
    while waiting:
        owner, extra = waiting.pop()
        for requirement in map(Requirement, owner.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(requirement.name)
            one = root if name == canonicalize_name(root.name) else distribution(name)
            assert requirement.specifier.contains(one.version, prereleases=True), f"{owner.name} needs {requirement}"
            if one is not root and name not in given:
                given.add(name)
                yield one
            for wanted in {"", *requirement.extras}:
                if (name, wanted) not in seen:
                    seen.add((name, wanted))
                    waiting.append((one, wanted))


def link(one: Distribution, site: Path) -> None:
    """Put one installed distribution into a folder, without the commands that stand elsewhere."""
    made: set[Path] = set()
    for file in one.files or ():
        if ".." in file.parts:
            continue
        source, target = Path(str(file.locate())), site / file
        if not source.exists():  # bytecode that was never written
            continue
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        try:
            os.link(source, target)
        except FileExistsError:
            continue  # two distributions may own one file of a namespace
        except OSError:  # on another file system
            target.symlink_to(source)
