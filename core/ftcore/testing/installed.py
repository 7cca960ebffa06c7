"""Distributions laid out as `pip` would install them, for tests: ftcore finds their entry points as anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def distribution(site: Path, name: str, entry_points: Mapping[str, str], version: str = "0") -> Path:
    """Write a distribution's metadata with entry points of the group `ftcore`.

    Args:
        site: the folder, made if it is not there; put it on `sys.path`.
        entry_points: `module` or `module:object` by plugin name.

    Returns:
        The folder.
    """
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    points = "".join(f"{plugin} = {target}\n" for plugin, target in entry_points.items())
    (info / "entry_points.txt").write_text(f"[ftcore]\n{points}", encoding="utf-8")
    return site
