"""The run directory, and the run as plugins see it.

runs/<name>/
    config.toml       the effective configuration, secrets masked
    manifest.json     versions, plugins, hardware, seed, data, status
    metrics.jsonl     one line for each logged step
    run.log           everything the run said
    checkpoints/      checkpoint-<step>/
    model/            the adapter or model, tokenizer and model card
    reporting/        what the trackers were sent, or have still to be sent
    trace.jsonl       with --trace: the calls to plugins
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from ftcore import files, processes
from ftcore.config import CORE_SECTIONS, Config
from ftcore.errors import ConfigError
from ftcore.plugins import Plugins, importers
from ftcore.plugins.selection import Choice
from ftcore.run import manifest
from ftcore.run.console import Console
from ftcore.run.locks import Lock, unwritable
from ftcore.secrets import mask, masked

if TYPE_CHECKING:
    from ftcore.trace import Trace

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST = 96  # the Hub's limit for a repository's name


def validate_name(name: str, blame: str) -> str:
    """The name itself, if it can be a folder and a Hub repository.

    Raises:
        ConfigError: it cannot; `blame` says where it came from.
    """
    wrong = "".join(sorted({char for char in name if char not in _SAFE}))
    reason = ""
    if not name:
        reason = "it is empty"
    elif wrong:
        reason = f"it has the characters {wrong!r}"
    elif len(name) > _LONGEST:
        reason = f"it has {len(name)} characters and the Hub takes {_LONGEST}"
    elif name[0] in ".-" or name[-1] in ".-" or ".." in name or "--" in name or name.endswith(".git"):
        reason = "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"
    if reason:
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise ConfigError(
            f"the run cannot be named {shown!r}",
            why=f"{reason} ({blame}); the name is a folder and a Hub repository",
            fix="Use letters, digits, '.', '_' and '-'",
        )
    return name


class ActiveRun:
    """A run with its directory; implements `ftcore.contracts.Run`."""

    def __init__(
        self, folder: Path, config: Config, started_at: datetime, facts: dict[str, Any], lock: Lock | None = None
    ) -> None:
        self._dir, self._started_at, self._facts = folder, started_at, facts
        self._seed = config.fine_tuner.seed
        self._settings = flat(config)
        self.resumed = False
        self.last_evaluation = -1
        """The step of the last evaluation in `metrics.jsonl`, -1 without one."""
        self._lock = lock
        self.is_main = processes.rank() == 0
        self.console = Console(silent=not self.is_main)
        self._log = _log_file(folder / ("run.log" if self.is_main else f"run.{processes.rank()}.log"))

    @property
    def name(self) -> str:
        return self._dir.name

    @property
    def dir(self) -> Path:
        return self._dir

    @property
    def started_at(self) -> datetime:
        return self._started_at

    @property
    def seed(self) -> int:
        return self._seed

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._settings

    def say(self, text: str) -> None:
        if self.is_main:
            self.console.say(mask(text))
        self._log.info("%s", mask(text))

    def warn(self, text: str) -> None:
        if self.is_main:
            self.console.warn(mask(text))
        self._log.warning("%s", mask(text))

    def imported_by(self, module: str) -> str | None:
        return importers.imported_by(module)

    def note(self, text: str, *, exc_info: BaseException | None = None) -> None:
        """Write to the log only."""
        self._log.info("%s", mask(text), exc_info=exc_info)

    def record(self, **facts: Any) -> None:
        """Add facts to the manifest; of several processes, each knows them and the main one writes them."""
        if self.is_main:
            manifest.update(self._dir / "manifest.json", self._facts, **masked(facts))
        else:
            self._facts.update(masked(facts))

    @property
    def facts(self) -> Mapping[str, Any]:
        """The manifest so far."""
        return self._facts

    def keep(self, trace: Trace | None) -> None:
        """Write the calls to plugins into the directory, if anybody follows them."""
        if trace is not None and self.is_main:
            trace.write_to(self._dir)

    def close(self) -> None:
        """Close the log file, and let other processes have the run."""
        for handler in list(self._log.handlers):
            handler.close()
            self._log.removeHandler(handler)
        if self._lock is not None:
            self._lock.release()


def create(config: Config, plugins: Plugins, selected: list[Choice], name: str, started_at: datetime) -> ActiveRun:
    """Make the run directory; of two runs with one name, only one gets it.

    Where the configuration gives no name, two runs may begin in one second: the second gets the next free name.

    Raises:
        ConfigError: a run of that name exists, or the folder cannot be made.
    """
    home = Path(config.run.output_dir).expanduser()
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=home, prefix=f".{name}."))
    except OSError as error:
        raise _unmakeable(home / name, error) from error
    scratch.chmod(0o755)
    lock = Lock(scratch)
    try:
        files.write_text(scratch / "config.toml", as_toml(config))
        for folder in _names(home, name, given=config.run.name is not None):
            known = masked(manifest.first_manifest(folder.name, config, plugins, selected, started_at))
            files.write_json(scratch / "manifest.json", known)
            if _claimed(scratch, folder):
                return ActiveRun(folder, config, started_at, known, lock)
    except BaseException:
        lock.release()
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    lock.release()
    shutil.rmtree(scratch, ignore_errors=True)
    raise ConfigError(
        f"the run {home / name} exists",
        why="a run never overwrites another",
        fix="Choose another name ([run] name), go on with it (--resume), or remove that folder",
    )


def _names(home: Path, name: str, given: bool) -> list[Path]:
    """The folder of that name, and where the user did not give it those that are taken when it is not free."""
    return [home / name, *([] if given else [home / f"{name}-{number}" for number in range(2, 1000)])]


def _claimed(scratch: Path, folder: Path) -> bool:
    """Give the folder its name, complete as it is; False where there is one already."""
    try:
        scratch.rename(folder)  # the system does this for one process only, unless `folder` is empty
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise _unmakeable(folder, error) from error
    return True


def _unmakeable(folder: Path, error: OSError) -> ConfigError:
    if isinstance(error, FileExistsError):
        return ConfigError(
            f"{folder.parent} is no folder", why="the run directory would lie in it", fix="Choose another output_dir"
        )
    return ConfigError(
        f"the run directory {folder} cannot be made",
        why=error.strerror or str(error),
        fix="Choose another output_dir in [run]",
    )


def enter(config: Config, folder: Path, lock: Lock | None = None) -> ActiveRun:
    """A run directory that another process has made, to go on in it.

    Args:
        lock: the lock on the directory, which is released when the run is closed.

    Raises:
        ConfigError: it is no run directory.
    """
    found = facts(folder)
    return ActiveRun(folder, config, datetime.fromisoformat(found["started_at"]), found, lock)


def facts(folder: Path) -> dict[str, Any]:
    """The manifest of a run directory.

    Raises:
        ConfigError: it is no run directory.
    """
    try:
        found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        datetime.fromisoformat(found["started_at"])
    except OSError as error:
        why = f"its manifest.json cannot be read: {error.strerror or error}"
        raise ConfigError(f"{folder} is no run directory", why=why, fix=_NAME_ONE) from error
    except (ValueError, KeyError, TypeError) as error:
        why = "its manifest.json is damaged, or another program's"
        raise ConfigError(f"{folder} is no run directory", why=why, fix=_NAME_ONE) from error
    return found


_NAME_ONE = "Name a run directory, such as runs/<name>"


def effective(config: Config) -> dict[str, Any]:
    """All settings in force, as TOML values; None is "null", and dates and times are themselves."""
    sections: dict[str, Any] = {name: getattr(config, name) for name in CORE_SECTIONS}
    sections |= config.sections
    return {name: _toml_values(section.model_dump()) for name, section in sections.items()}


def as_toml(config: Config) -> str:
    """All settings in force, as a file that can be read again.

    A secret that came from the environment stays there: the file names the variable. Any other is masked.
    """
    tables = effective(config)
    for section, table in tables.items():
        for key, value in table.items():
            written = config.written.get(section, {}).get(key)
            hidden = masked(value)
            # A pydantic SecretStr is hidden from the start.
            is_hidden = hidden != value or (isinstance(value, str) and set(value) == {"*"})
            from_environment = is_hidden and written is not None and "${" in str(written)
            table[key] = masked(written) if from_environment else _escaped(hidden)
    return tomli_w.dumps(tables)


def _escaped(value: Any) -> Any:
    """The value with a `${` that is meant as it stands written so that it is read as such."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def flat(config: Config) -> dict[str, Any]:
    """All settings in force, by `section.key`, secrets masked."""
    return {
        f"{section}.{key}": masked(str(value) if isinstance(value, date | time) else value)
        for section, values in effective(config).items()
        for key, value in values.items()
    }


def _toml_values(values: dict[str, Any]) -> dict[str, Any]:
    def convert(value: Any) -> Any:
        if value is None:
            return "null"
        if isinstance(value, dict):
            return _toml_values(value)
        if isinstance(value, list | tuple):
            return [convert(item) for item in value]
        return value if isinstance(value, str | int | float | bool | date | time) else str(value)

    return {key: convert(value) for key, value in values.items()}


def _log_file(path: Path) -> logging.Logger:
    logger = logging.Logger(f"ftcore.run.{path.parent.name}")  # not in the global tree: two runs never share it
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise unwritable(path.parent, error) from error
    handler.setFormatter(_MaskingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger


class _LogFile(logging.FileHandler):
    """A log that cannot be written is told of once, and ends nothing."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        self._tell(sys.exc_info()[1])

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self._tell(error)

    def _tell(self, error: BaseException | None) -> None:
        if not self._told:
            self._told = True
            print(f"warning: {self.baseFilename} cannot be written ({error})", file=sys.stderr, flush=True)


class _MaskingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))
