"""The reporter: one MLflow run, through a client that keeps no state outside itself."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Logged, Run, RunRecord, RunStatus
from ftcore.errors import RecordRefused
from ftcore.secrets import mask, masked
from ftcore_mlflow import limits

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ftcore_mlflow import MlflowSettings

_STATUS: dict[RunStatus, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

_RUN_KEY = "ftcore.run_key"
"""A tag by which a run is found again when the answer to its creation was lost."""

_ENVIRONMENT = {
    # ftcore repeats requests itself, without end and without blocking: MLflow's own 7 retries would only take the
    # time in which the reporter's thread could be told that the run is over.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds of silence
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""What MLflow reads from the environment; a variable that the user set is left alone."""


class MlflowReporter:
    """Implements `ftcore.contracts.Reporter`."""

    def __init__(self, run: Run, settings: MlflowSettings) -> None:
        self._run, self._settings = run, settings
        self._client: MlflowClient | None = None
        self._run_id = ""

    def start(self, record: RunRecord) -> str:
        """Open the run: the one of `external_id`, or a new one.

        Raises:
            mlflow.exceptions.MlflowException: the server does not answer, or does not want us.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        uri = self._tracking_uri()
        self._client = client = MlflowClient(tracking_uri=uri)
        if record.external_id is not None:
            self._run_id = record.external_id
            client.update_run(self._run_id, status="RUNNING")
        else:
            self._run_id = self._new_run(client, record)
        self._log_params(client, record.params)
        self._run.say(f"mlflow     run {self._run_id} in {_shown(uri)}, experiment {self._settings.experiment_name}")
        return self._run_id

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """One point of each metric's history.

        A point that is sent twice is stored once: MLflow tells points apart by name, time, step and value.
        """
        self.log_many([Logged(metrics, step, time)])

    def log_many(self, records: Sequence[Logged]) -> None:
        """The points of several steps in one request."""
        from mlflow.entities import Metric

        points = [
            Metric(limits.key(name), value, round(1000 * record.time), record.step)
            for record in records
            for name, value in record.metrics.items()
        ]
        steps = f"{records[0].step}" if len(records) == 1 else f"{records[0].step} to {records[-1].step}"
        with _refusals(f"the metrics of step {steps}"):
            for portion in limits.portions(points, limits.METRICS_PER_REQUEST):
                self._opened.log_batch(self._run_id, metrics=list(portion))

    def artifact(self, path: Path, name: str) -> None:
        """A folder under `name`; a file as `name`."""
        with _refusals(f"the artifact {name}"):
            if path.is_dir():
                self._opened.log_artifacts(self._run_id, str(path), name)
                return
            folder, _, file_name = name.rpartition("/")
            with tempfile.TemporaryDirectory() as scratch:  # MLflow takes the file's own name, which may be another
                link = Path(scratch) / file_name
                link.symlink_to(path.absolute())
                self._opened.log_artifact(self._run_id, str(link), folder or None)

    def finish(self, status: RunStatus, time: float) -> None:
        """Set the run's status and the time of its end."""
        with _refusals("the run's end"):
            self._opened.set_terminated(self._run_id, _STATUS[status], round(1000 * time))

    @property
    def _opened(self) -> MlflowClient:
        assert self._client is not None, "start comes first"
        return self._client

    def _tracking_uri(self) -> str:
        configured = self._settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        return configured or f"sqlite:///{self._run.dir.absolute().parent / 'mlflow.db'}"

    def _artifact_location(self) -> str | None:
        """Beside a local store; MLflow would take the folder in which the command was started. A server decides."""
        if self._settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"):
            return None
        return (self._run.dir.absolute().parent / "mlartifacts").as_uri()

    def _experiment(self, client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        name = self._settings.experiment_name
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, artifact_location=self._artifact_location()))
            except MlflowException:
                experiment = client.get_experiment_by_name(name)  # another run was faster
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
            self._run.warn(f"mlflow: the experiment {name} was deleted, and is restored")
        return str(experiment.experiment_id)

    def _new_run(self, client: MlflowClient, record: RunRecord) -> str:
        experiment_id = self._experiment(client)
        started = self._run.started_at
        key = uuid.uuid5(uuid.NAMESPACE_URL, f"{socket.gethostname()}:{record.dir}:{started.isoformat()}").hex
        found = client.search_runs([experiment_id], f"tags.`{_RUN_KEY}` = '{key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {
            **{limits.key(name): value for name, value in {**record.tags, **masked(self._settings.tags)}.items()},
            _RUN_KEY: key,
            "mlflow.source.name": "ftcore",
            "mlflow.source.type": "LOCAL",
        }
        tags, too_long = limits.cut(tags, limits.TAG_LENGTH)
        self._tell_cut("tags", too_long, limits.TAG_LENGTH)
        run = client.create_run(experiment_id, round(1000 * started.timestamp()), tags, record.name)
        return str(run.info.run_id)

    def _log_params(self, client: MlflowClient, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        texts = {limits.key(name): limits.text(value) for name, value in settings.items()}
        params, too_long = limits.cut(texts, limits.PARAM_LENGTH)
        present = client.get_run(self._run_id).data.params
        changed = [name for name, value in params.items() if present.get(name, value) != value]
        new = [(name, value) for name, value in params.items() if name not in present]
        for batch in limits.param_batches(new):
            client.log_batch(self._run_id, params=[Param(name, value) for name, value in batch])
        if not present:
            self._tell_cut("parameters", too_long, limits.PARAM_LENGTH)
        if changed:
            self._run.warn(f"mlflow keeps the first values of {', '.join(changed)}: a parameter cannot be changed")

    def _tell_cut(self, what: str, names: list[str], length: int) -> None:
        if names:
            self._run.warn(f"mlflow takes {length} characters; these {what} were cut: {', '.join(names)}")


def _shown(uri: str) -> str:
    return mask(uri)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """What MLflow calls invalid stays so however often it is sent."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            reason = " ".join(str(error).split())
            raise RecordRefused(f"MLflow refuses {what}", why=reason[:300]) from error
        raise
