"""Taking up a run that ended before its time: which one, from which checkpoint, and whether it is still the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from ftcore import checkpoints
from ftcore.config import Config
from ftcore.errors import ConfigError
from ftcore.plugins import Plugins
from ftcore.plugins.selection import Choice
from ftcore.run import metrics, runs
from ftcore.run.changes import changes, renewed, require_none
from ftcore.run.runs import ActiveRun
from ftcore.run.steps import Steps


def find(config: Config, name: str) -> Path | None:
    """The directory of the run to go on with: the named one, or else the newest of this configuration's.

    Args:
        name: a run's name or directory; "" for the newest.

    Returns:
        None where no run of this configuration has begun yet.

    Raises:
        ConfigError: there is no such run.
    """
    home = Path(config.run.output_dir).expanduser()
    if name:
        for folder in (home / name, _expanded(name)):
            if (folder / "manifest.json").is_file():
                return folder
        there = ", ".join(sorted(folder.name for folder, _ in _runs(home))[-5:])
        raise ConfigError(
            f"there is no run {name}",
            why=f"{home} has {there}" if there else f"{home} has no run",
            fix="Name one of them" if there else "Start one: leave out --resume",
        )
    if config.run.name:
        folder = home / f"{config.run.name_prefix}{config.run.name}{config.run.name_suffix}"
        return folder if (folder / "manifest.json").is_file() else None
    here = {"config_file": config.path.name, "config_dir": str(config.path.parent.absolute())}
    mine = [(folder, facts) for folder, facts in _runs(home) if all(facts.get(key) == here[key] for key in here)]
    return max(mine, key=lambda run: datetime.fromisoformat(run[1]["started_at"]), default=(None, {}))[0]


def _expanded(name: str) -> Path:
    with suppress(RuntimeError):  # there is no such user
        return Path(name).expanduser()
    return Path(name)


def take_up(
    active: ActiveRun, config: Config, plugins: Plugins, selected: Sequence[Choice], *, accept_changes: bool
) -> None:
    """Compare the run with today's configuration and packages, and note in its manifest that it goes on.

    Raises:
        InvalidConfig: something that decides what is learned is different, and that is not accepted.
    """
    found = changes(active.dir, active.facts, config, plugins, selected)
    begun = checkpoints.in_order(active.dir / "checkpoints")
    if begun and not accept_changes:
        require_none(active.name, found)
    for change in found:
        kind = "accepted" if change.matters and begun else "note"
        active.say(f"{kind:<10} {change}")
    if any(change.matters for change in found):
        Steps(active).forget_all_but("before")  # that was the base model; whatever was trained or saved is another now
    resumption = {
        "at": datetime.now().astimezone().isoformat(),
        "accepted": accept_changes,
        "changes": [asdict(change) for change in found],
    }
    active.record(
        **renewed(active.dir, config, plugins, selected),
        resumptions=[*active.facts.get("resumptions", ()), resumption],
        status="running",
        error=None,
        ended_at=None,
    )


def starting_point(active: ActiveRun, steps: Steps) -> checkpoints.Found:
    """The checkpoint to go on from, with what is behind it cleared away; for a new run there is none.

    Damaged checkpoints are named and set aside, metrics of steps that will be taken again are dropped, and where
    nothing is left to go on from, the run begins again.
    """
    folder = active.dir / "checkpoints"
    active.resumed = bool(active.facts.get("resumptions"))
    found = checkpoints.newest(folder)
    if active.is_main:
        _tidy(active, found)
    if found.folder is not None:
        active.resumed = True
        active.say(f"resuming   from {found.folder.name}")
    elif active.resumed or active.facts.get("progress"):
        active.say("resuming   there is no complete checkpoint: training begins again")
        steps.forget_all_but()
    if resumptions := list(active.facts.get("resumptions", ())):
        active.record(resumptions=[*resumptions[:-1], {**resumptions[-1], "from_step": found.step}])
    if active.is_main:
        evaluated = metrics.cut(active.dir / "metrics.jsonl", found.step if found.folder is not None else -1)
        active.last_evaluation = evaluated
    return found


def _tidy(active: ActiveRun, found: checkpoints.Found) -> None:
    """Clear away what a crash left, and set damaged checkpoints aside."""
    checkpoints.clean(active.dir / "checkpoints")
    for path, wrong in found.damaged:
        aside = checkpoints.set_aside(path)
        active.warn(f"{path.name} is damaged and not used: {wrong}; it is now {aside.name}")


def _runs(home: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run directories in an output folder, with their manifests."""
    for folder in home.iterdir() if home.is_dir() else ():
        if (folder / "manifest.json").is_file():
            try:
                yield folder, runs.facts(folder)
            except ConfigError:
                continue  # a run that ended while it wrote its first lines
