"""The reporter: one W&B run, opened and fed from the reporter's thread."""

from __future__ import annotations

import logging
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ftcore.contracts import Run, RunRecord, RunStatus
from ftcore.errors import RecordRefused
from ftcore.secrets import masked

if TYPE_CHECKING:
    from ftcore_wandb import WandbSettings

_log = logging.getLogger(__name__)

_EXIT_CODE: dict[RunStatus, int] = {"finished": 0, "failed": 1, "interrupted": 130}

_INIT_TIMEOUT = 10.0
"""Seconds for opening a run. The end of the process waits for an attempt under way, so this is short; ftcore repeats it."""

_NAME_LENGTH = 128


class WandbReporter:
    """Implements `ftcore.contracts.Reporter`."""

    def __init__(self, run: Run, settings: WandbSettings, mode: str) -> None:
        self._run, self._settings, self._mode = run, settings, mode
        self._record: RunRecord | None = None
        self._opened: Any = None

    def start(self, record: RunRecord) -> str:
        """Open the run: the one of `external_id`, or a new one.

        Raises:
            wandb.errors.Error: the server does not answer, or does not want us.
        """
        self._record = record
        run = self._open()
        if self._mode == "offline":
            self._run.say(f"wandb      run {run.id}, offline; send it with: wandb sync {Path(run.dir).parent}")
        else:
            self._run.say(f"wandb      {run.url or run.id}")
        return str(run.id)

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """One row of the history; metrics of one step share a row."""
        run = self._open()
        if step < run.step:
            raise RecordRefused(
                f"W&B's history is at step {run.step} and takes no metrics of step {step}",
                why="its steps only increase",
                fix="metrics.jsonl in the run directory has them",
            )
        self._guarded(lambda: run.log({**metrics, "_timestamp": time}, step=step))

    def artifact(self, path: Path, name: str) -> None:
        """A file or folder as the artifact `<run>-<name>`."""
        import wandb

        run = self._open()
        safe = re.sub(r"[^\w.-]", "-", f"{self._run.name}-{name}")[:_NAME_LENGTH]
        artifact = wandb.Artifact(safe, "model" if path.is_dir() else "file")
        if path.is_dir():
            for file in sorted(item for item in path.rglob("*") if item.is_file()):
                # Models are large: they are read where they lie, not copied first.
                artifact.add_file(str(file), str(file.relative_to(path)), policy="immutable")
        else:
            artifact.add_file(str(path), name=path.name)  # a copy, since the manifest is written again later
        self._guarded(lambda: run.log_artifact(artifact))

    def finish(self, status: RunStatus, time: float) -> None:
        """Close the run and wait for what is under way, as long as `report_timeout` allows.

        W&B takes no time of an end: it is when this is called.
        """
        run = self._open()
        folder = Path(run.dir).parent
        try:
            run.finish(exit_code=_EXIT_CODE[status])
        except TimeoutError as error:
            raise RecordRefused(
                "W&B has not got everything", why="it took too long", fix=f"Send the rest: wandb sync {folder}"
            ) from error
        except Exception as error:
            raise RecordRefused(
                "W&B has not got everything",
                why=f"its service was lost while the run went on ({type(error).__name__})",
                fix="metrics.jsonl in the run directory has all metrics",
            ) from error
        finally:
            _release(run)
            self._opened = None

    def _open(self) -> Any:
        """The open run; opened again if wandb's service was lost."""
        if self._opened is None:
            assert self._record is not None, "start comes first"
            try:
                self._opened = _init(self._run, self._settings, self._mode, self._record)
            except BaseException:
                _release(None)
                raise
        return self._opened

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (TypeError, ValueError) as error:
            raise RecordRefused("W&B refuses a record", why=str(error)) from error
        except BaseException:
            _release(self._opened)
            self._opened = None
            raise


def _init(run: Run, settings: WandbSettings, mode: str, record: RunRecord) -> Any:
    # A crash report or a usage report is not the user's wish; WANDB_ERROR_REPORTING=true asks for them.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    service = wandb.setup(wandb.Settings(silent=True))
    # The same id at every attempt, so that one whose answer was lost does not leave a second run.
    run_id = record.external_id or _run_id(run, record)
    active = getattr(service, "most_recent_active_run", None)
    if active is not None and active.id == run_id:
        return active  # it was opened, and what came behind that failed
    quiet = wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        reinit="create_new",  # leaves alone what else in this process has opened a run
        save_code=False,
        x_save_requirements=False,
        x_disable_stats=not settings.system_metrics,
        x_disable_meta=not settings.system_metrics,
        init_timeout=_INIT_TIMEOUT,
        finish_timeout=max(1.0, float(run.settings.get("run.report_timeout", 30.0))),
        finish_timeout_raises=True,
    )
    return wandb.init(
        project=settings.project or os.environ.get("WANDB_PROJECT") or "ftcore",
        entity=settings.entity,
        name=record.name,
        id=run_id,
        resume="allow",
        mode=cast(Any, mode),
        group=settings.group,
        tags=masked(settings.tags),
        notes=masked(settings.notes),
        config={**record.params, **record.tags},
        dir=str(run.dir.absolute()),  # wandb makes its folder `wandb` in it
        settings=quiet,
    )


def _run_id(run: Run, record: RunRecord) -> str:
    key = f"{socket.gethostname()}:{record.dir}:{run.started_at.isoformat()}"
    return uuid.uuid5(uuid.NAMESPACE_URL, key).hex[:16]


def _release(own: Any) -> None:
    """Stop wandb's service, unless a run of somebody else's in this process uses it.

    The service takes the id of a run that could not be opened for one in use, and after a run's end it still writes
    the rest of the run's file; when it has stopped, the id is free and the file is whole.
    """
    import wandb

    active = getattr(wandb.setup(), "most_recent_active_run", None)
    if active is not None and active is not own:
        return
    try:
        wandb.teardown()
    except (Exception, SystemExit) as error:  # it was gone already; where that matters, the caller raises
        _log.debug("wandb's service did not stop: %r", error)
