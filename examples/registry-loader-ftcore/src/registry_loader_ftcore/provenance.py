"""Which version a run was given: written beside its manifest, and the same whenever the run goes on."""

from __future__ import annotations

import json
from pathlib import Path

from ftcore import cache, files
from ftcore.contracts import Run
from ftcore.errors import ModelError
from registry_loader_ftcore.index import Found

HOME = "registry"
"""The folder for models of the registry in ftcore's cache."""

FILE = "registry.json"


def describe(entry: Path, found: Found, url: str) -> None:
    """Write down in a cache entry what its model is."""
    checksums = {name: file.sha256 for name, file in found.files.items()}
    facts = {"registry": url, "model": found.model, "version": found.version, "sha256": checksums}
    files.write_json(entry / FILE, facts)


def note(run: Run, source: str) -> None:
    """Write down in the run directory which version is loaded, where it is one of the registry's.

    Raises:
        ModelError: the run was begun with another one, because a stage has moved meanwhile.
    """
    entry = Path(source).parent
    if entry.parent != cache.cache_folder() / HOME:
        return
    now = json.loads((entry / FILE).read_text(encoding="utf-8"))
    run.say(f"registry   {now['model']} version {now['version']}")
    if run.dir.name != run.name:
        return  # `ftcore preview` and `ftcore estimate` have no run directory
    kept = run.dir / FILE
    then = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else now
    if then["sha256"] != now["sha256"]:
        was = f"registry:{then['model']}@{then['version']}"
        raise ModelError(
            f"the run {run.name} was begun with version {then['version']} of {then['model']}",
            why=f"the registry's answer is version {now['version']} of {now['model']} now",
            fix=f'Set base_model_id = "{was}" and add --accept-changes',
        )
    files.write_json(kept, now)
