"""The MLflow reporter against a real `mlflow server` on loopback, and against the local SQLite store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import ftcore_mlflow
from ftcore.contracts import Reporter, RunStatus
from ftcore.errors import RecordRefused
from ftcore.reporting import Reporting
from ftcore_mlflow import MlflowSettings, limits

if TYPE_CHECKING:
    from conftest import TrackedRun

pytest.importorskip("mlflow")

pytestmark = [
    # mlflow's own models use a loader strategy that SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    # The pooled connections of mlflow's store are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]

_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")


class Server:
    """A `mlflow server` with its SQLite file and its artifacts in one folder; can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 90
        while time.monotonic() < until:
            try:
                with urlopen(f"{self.uri}/health", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (URLError, OSError):
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("mlflow"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the caller's, none left by an earlier test, and a place where nothing may be left behind."""
    from ftcore_mlflow.reporter import _ENVIRONMENT

    for name in {*_VARIABLES, *_ENVIRONMENT}:
        monkeypatch.setenv(name, "to be removed")  # so that what the reporter sets is undone too
        monkeypatch.delenv(name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture
def run(tracked_run: TrackedRun) -> TrackedRun:
    return tracked_run


def make(run: TrackedRun, **settings: Any) -> Reporter:
    return ftcore_mlflow.ftcore_make_reporter(run, MlflowSettings(**settings))


def report(
    run: TrackedRun, uri: str | None, steps: range, status: RunStatus = "finished", timeout: float = 60.0
) -> None:
    """A run's records, as core sends them."""
    reporting = Reporting(run.dir, run.say, run.warn)
    reporting.start({"mlflow": lambda: make(run, tracking_uri=uri, tags={"team": "blue"})}, run.record())
    for step in steps:
        reporting.log(step, {"loss": 1 / (1 + step), "learning_rate": 0.5})
    (run.dir / "manifest.json").write_text('{"a": 1}')
    (run.dir / "model" / "deep").mkdir(parents=True, exist_ok=True)
    (run.dir / "model" / "adapter.bin").write_bytes(bytes(range(256)) * 1000)
    (run.dir / "model" / "deep" / "card.md").write_text("# Card")
    reporting.artifact(run.dir / "manifest.json", "facts/of the run.json")
    reporting.artifact(run.dir / "model", "model")
    reporting.finish(status, timeout)


def only_run(uri: str, experiment: str = "ftcore", name: str = "exp-1") -> Any:
    """The client, and the only run of that name in the experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (one,) = client.search_runs([found.experiment_id], f"attributes.run_name = '{name}'")
    return client, one


def history(client: Any, one: Any, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, metric)]


def rename(run: TrackedRun, name: str) -> TrackedRun:
    """The run under a name that no other test uses on the shared server."""
    run.dir = run.dir.rename(run.dir.parent / name)
    return run


def test_everything_of_a_run_comes_back_from_the_server(run: TrackedRun, server: Server, tmp_path: Path) -> None:
    rename(run, "complete")
    report(run, server.uri, range(1, 6))
    assert run.warned == []
    client, one = only_run(server.uri, name="complete")
    assert one.info.status == "FINISHED"
    assert one.info.start_time == 1000 * run.started_at.timestamp()
    assert abs(one.info.end_time / 1000 - time.time()) < 60
    assert one.data.params == {
        "fine_tuner.epochs": "3",
        "fine_tuner.learning_rate": "0.0002",
        "fine_tuner.target_modules": '["q_proj", "v|proj"]',
        "run.name": "null",
        "run.report_timeout": "20.0",
    }
    assert one.data.tags.items() >= {"ftcore.version": "1", "team": "blue", "mlflow.source.name": "ftcore"}.items()
    assert history(client, one, "loss") == [(step, 1 / (1 + step)) for step in range(1, 6)]
    times = [point.timestamp / 1000 for point in client.get_metric_history(one.info.run_id, "loss")]
    assert times == sorted(times)
    assert abs(times[0] - time.time()) < 120

    copy = Path(client.download_artifacts(one.info.run_id, "", str(tmp_path)))
    sent = {str(path.relative_to(copy)): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert {name: content for name, content in sent.items() if name.startswith(("facts", "model"))} == {
        "facts/of the run.json": b'{"a": 1}',
        "model/adapter.bin": bytes(range(256)) * 1000,
        "model/deep/card.md": b"# Card",
    }
    assert run.said == [f"mlflow     run {one.info.run_id} in {server.uri}, experiment ftcore"]


@pytest.mark.parametrize(("status", "shown"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_a_bad_end_shows(run: TrackedRun, server: Server, status: RunStatus, shown: str) -> None:
    rename(run, f"ends-{status}")
    report(run, server.uri, range(2), status)
    assert only_run(server.uri, name=f"ends-{status}")[1].info.status == shown


def test_a_resumed_run_goes_on_in_the_same_run(run: TrackedRun, server: Server) -> None:
    rename(run, "resumed")
    report(run, server.uri, range(3), "interrupted")
    run.settings = {**run.settings, "fine_tuner.epochs": 5}
    report(run, server.uri, range(3, 6))
    client, one = only_run(server.uri, name="resumed")
    assert one.info.status == "FINISHED"
    assert [step for step, _ in history(client, one, "loss")] == list(range(6))
    assert run.warned == ["mlflow keeps the first values of fine_tuner.epochs: a parameter cannot be changed"]


def test_a_reopened_run_is_running(run: TrackedRun, server: Server) -> None:
    rename(run, "reopened")
    report(run, server.uri, range(1), "failed")
    client, one = only_run(server.uri, name="reopened")
    make(run, tracking_uri=server.uri).start(run.record(one.info.run_id))
    assert client.get_run(one.info.run_id).info.status == "RUNNING"


def test_a_start_whose_answer_was_lost_leaves_one_run(run: TrackedRun, server: Server) -> None:
    rename(run, "twice")
    ids = {make(run, tracking_uri=server.uri).start(run.record()) for _ in range(2)}
    assert len(ids) == 1
    only_run(server.uri, name="twice")


def test_a_record_that_is_sent_twice_counts_once(run: TrackedRun, server: Server) -> None:
    rename(run, "again")
    reporter = make(run, tracking_uri=server.uri)
    reporter.start(run.record())
    for _ in range(2):
        reporter.log({"loss": 0.5}, 7, 1_700_000_000.25)
    client, one = only_run(server.uri, name="again")
    assert history(client, one, "loss") == [(7, 0.5)]


def test_awkward_values_arrive(run: TrackedRun, server: Server) -> None:
    rename(run, "awkward")
    many = {f"acme.key{number}": number for number in range(250)}
    run.settings = {
        **many,
        "acme.long": "x" * 7000,
        "acme.empty": "",
        "acme.odd@key": "é\n☃",
        **{f"acme.snow{n}": 6000 * "☃" for n in range(30)},
    }
    reporter = make(run, tracking_uri=server.uri)
    reporter.start(run.record())
    reporter.log({"nan": float("nan"), "inf": float("inf"), "loss@odd": 1.0}, 1, 1.0)
    reporter.log({f"metric{number}": 1.0 for number in range(1200)}, 2, 1.0)
    _, one = only_run(server.uri, name="awkward")
    assert len(one.data.params) == 283
    assert one.data.params["acme.long"] == "x" * 6000
    assert one.data.params["acme.odd_key"] == "é\n☃"
    assert one.data.metrics["nan"] != one.data.metrics["nan"]
    assert one.data.metrics["inf"] > 1e300
    assert one.data.metrics["loss_odd"] == 1.0
    assert one.data.metrics["metric1199"] == 1.0
    assert run.warned == ["mlflow takes 6000 characters; these parameters were cut: acme.long"]


def test_what_mlflow_will_never_take_is_refused(run: TrackedRun, server: Server) -> None:
    from mlflow import MlflowClient

    rename(run, "deleted")
    reporter = make(run, tracking_uri=server.uri)
    run_id = reporter.start(run.record())
    assert run_id is not None
    MlflowClient(tracking_uri=server.uri).delete_run(run_id)
    with pytest.raises(RecordRefused, match="MLflow refuses the metrics of step 3"):
        reporter.log({"loss": 1.0}, 3, 1.0)


def test_a_deleted_experiment_is_restored(run: TrackedRun, server: Server) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    client.delete_experiment(client.create_experiment("gone"))
    make(run, tracking_uri=server.uri, experiment_name="gone").start(run.record())
    only_run(server.uri, "gone")
    assert run.warned == ["mlflow: the experiment gone was deleted, and is restored"]


def test_the_local_store_lies_in_the_output_folder(run: TrackedRun, tmp_path: Path) -> None:
    report(run, None, range(1, 4))
    assert run.warned == []
    client, one = only_run(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    assert one.info.status == "FINISHED"
    assert [step for step, _ in history(client, one, "loss")] == [1, 2, 3]
    stored = tmp_path / "runs" / "mlartifacts" / one.info.run_id / "artifacts"
    assert (stored / "model" / "deep" / "card.md").read_text() == "# Card"
    assert (stored / "facts" / "of the run.json").read_text() == '{"a": 1}'
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_environment_names_the_server(
    run: TrackedRun, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    make(rename(run, "by-variable"), experiment_name="by variable").start(run.record())
    only_run(server.uri, "by variable", "by-variable")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    make(run, experiment_name="by setting", tracking_uri=server.uri).start(run.record())
    only_run(server.uri, "by setting", "by-variable")


def test_variables_that_the_user_set_are_kept(run: TrackedRun, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    make(run, tracking_uri=server.uri).start(run.record())
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_is_not_there_costs_no_more_than_the_timeout(run: TrackedRun, answers: bool) -> None:
    with silent_port() as silent:
        port = silent if answers else free_port()
        started = time.monotonic()
        report(run, f"http://127.0.0.1:{port}", range(3), timeout=1.0)
        assert time.monotonic() - started < 4
    assert run.warned[-1].startswith("mlflow has not taken 6 records")


@pytest.mark.slow
def test_a_server_that_comes_late_gets_everything_in_order_and_once(run: TrackedRun, tmp_path: Path) -> None:
    late = Server(tmp_path)
    reporting = Reporting(run.dir, run.say, run.warn)
    reporting.start({"mlflow": lambda: make(run, tracking_uri=late.uri)}, run.record())
    try:
        for step in range(10):
            reporting.log(step, {"loss": step / 2})
        time.sleep(2)
        assert len(run.warned) == 1
        assert "Connection refused" in run.warned[0]
        late.start()
        for step in range(10, 20):
            reporting.log(step, {"loss": step / 2})
        wait_for(lambda: "mlflow is back and has all records" in run.said)
        late.stop()
        for step in range(20, 30):
            reporting.log(step, {"loss": step / 2})
        wait_for(lambda: len(run.warned) == 2)
        late.start()
        reporting.finish("finished", 60)
        client, one = only_run(late.uri)
        assert one.info.status == "FINISHED"
        assert history(client, one, "loss") == [(step, step / 2) for step in range(30)]
        times = [point.timestamp for point in client.get_metric_history(one.info.run_id, "loss")]
        assert times == sorted(times)
    finally:
        late.stop()
    assert len(run.warned) == 2


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_names_that_mlflow_refuses_are_made_harmless() -> None:
    names = ["loss", "a@b", "/abs", "../up", "a//b", "a/../b", ".", "", "x" * 300]
    assert [limits.key(name) for name in names] == [
        "loss", "a_b", "_abs", "___up", "a__b", "a____b", "_", "_", "x" * 250,
    ]  # fmt: skip


def test_check_names_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcore.config import load
    from ftcore.plugins import discover

    def messages(report_to: str) -> list[str]:
        file = tmp_path / "config.toml"
        file.write_text(f'[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "hf:d"\nreport_to = "{report_to}"\n')
        found = ftcore_mlflow.ftcore_check(load(file, discover()))
        return [f"{problem.severity} {problem.message}. {problem.fix}" for problem in found]

    assert messages("mlflow") == []
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what an import system answers where nothing is installed
    assert messages("none") == []
    assert messages("mlflow") == [
        "error report_to names mlflow, and the package mlflow is not installed. "
        "Install it: pip install 'ftcore[mlflow]'"
    ]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, ftcore_mlflow; print({'mlflow', 'numpy', 'requests', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_process_ends_cleanly_though_the_server_is_silent(tmp_path: Path) -> None:
    script = (
        "import sys, types, datetime; from pathlib import Path\n"
        "import ftcore_mlflow; from ftcore.reporting import Reporting; from ftcore.contracts import RunRecord\n"
        "folder = Path(sys.argv[1]); settings = ftcore_mlflow.MlflowSettings(tracking_uri=sys.argv[2])\n"
        "run = types.SimpleNamespace(dir=folder, name='a', say=print, warn=print)\n"
        "reporting = Reporting(folder, print, print)\n"
        "reporting.start({'mlflow': lambda: ftcore_mlflow.ftcore_make_reporter(run, settings)},\n"
        "                RunRecord('a', folder, {}, {}))\n"
        "reporting.log(1, {'loss': 1.0}); reporting.finish('finished', 3)\n"
    )
    with silent_port() as port:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), f"http://127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert "mlflow has not taken 2 records" in done.stdout
    assert done.stderr == ""
