"""A run directory opened again, to do what is left of a run that has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftcore.config import Config, load
from ftcore.errors import ConfigError, FtcoreError
from ftcore.plugins import Plugins
from ftcore.plugins.selection import Choice
from ftcore.run import runs
from ftcore.run.locks import Lock
from ftcore.run.runs import ActiveRun
from ftcore.run.stages import Stages
from ftcore.secrets import MASK


@dataclass(frozen=True)
class Reopened:
    """A run that is there, with the configuration and the plugins that it had."""

    active: ActiveRun
    config: Config
    plugins: Plugins
    stages: Stages


def reopen(folder: Path, plugins: Plugins, overrides: Sequence[str] = (), *, exclusively: bool = False) -> Reopened:
    """Open a run directory.

    Args:
        overrides: `section.key=value` texts, as for `ftcore run`.
        exclusively: keep other processes out until the run is closed.

    Raises:
        ConfigError: it is no run directory, or in use.
        InvalidConfig: its configuration cannot be used here and today.
    """
    path = folder / "config.toml"
    if not path.is_file() or not (folder / "manifest.json").is_file():
        raise ConfigError(f"{folder} is no run directory", fix="Name a run directory, such as runs/<name>")
    facts = runs.facts(folder)
    chosen = {section: set(keys) for section, keys in facts.get("chosen", {}).items()}
    for override in overrides:
        section, _, key = override.partition("=")[0].strip().partition(".")
        chosen.setdefault(section.strip(), set()).add(key.strip())
    config = load(path, plugins, overrides, chosen)
    if "config_dir" in facts:
        # Paths in it are relative to the file that the run was started with.
        folders = {where: Path(folder) for where, folder in facts.get("config_folders", {}).items()}
        config = replace(config, path=Path(facts["config_dir"]) / facts["config_file"], folders=folders)
    selected = [Choice(**choice) for choice in facts.get("stages", ())]
    lock = Lock(folder) if exclusively else None
    try:
        active = runs.enter(config, folder, lock)
    except FtcoreError:
        if lock is not None:
            lock.release()
        raise
    active.keep(plugins.trace)
    return Reopened(active, config, plugins, Stages(config, plugins, selected))


def require_secrets(config: Config, sections: Iterable[str]) -> None:
    """Stop where a section needs a secret that the run directory does not hold.

    A value that came from the environment is read from there again. One that was written into the configuration
    itself is masked in the run directory.

    Raises:
        ConfigError: a value has a masked part.
    """
    for name in sections:
        section = config.section(name)
        for key, value in section.model_dump().items() if section is not None else ():
            if any(MASK in text for text in _texts(value)):
                raise ConfigError(
                    f"{name}.{key} has a secret in it, which the run directory does not keep",
                    fix=f"Give it again with --set {name}.{key}=…, and write it as ${{NAME}} in the next configuration",
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
