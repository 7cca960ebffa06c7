"""The MLflow reporter against a real `mlflow server` on loopback, and against the local SQLite store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow_parts import Server, flaky, free_port, silent_port

import ftcore_mlflow
from ftcore.contracts import Reporter, RunStatus
from ftcore.errors import RecordRefused
from ftcore.reporting.fan_out import Reporting
from ftcore_mlflow import MlflowSettings, limits

if TYPE_CHECKING:
    from conftest import TrackedRun

pytest.importorskip("mlflow")

pytestmark = [
    pytest.mark.xdist_group("mlflow"),  # one server for all
    # mlflow's own models use a loader strategy that SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    # The pooled connections of mlflow's store are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]

_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")


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
        assert time.monotonic() - started < 8  # one request may take 10 s
    assert run.warned[-1].startswith("mlflow has not taken 6 records")


@pytest.mark.slow
def test_a_server_that_comes_late_gets_everything_in_order_and_once(run: TrackedRun, tmp_path: Path) -> None:
    late = Server(tmp_path)
    reporting = Reporting(run.dir, run.say, run.warn)
    reporting.start({"mlflow": lambda: make(run, tracking_uri=late.uri)}, run.record())
    try:
        for step in range(10):
            reporting.log(step, {"loss": step / 2})
        wait_for(lambda: run.warned)
        time.sleep(1)  # it tries again, and does not warn again
        assert len(run.warned) == 1
        assert "Connection refused" in run.warned[0]
        late.start()
        for step in range(10, 20):
            reporting.log(step, {"loss": step / 2})
        wait_for(lambda: "mlflow is back and has all records" in run.said)
        late.kill()
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


def test_a_server_that_answers_500_at_random_gets_everything_in_order_and_once(
    run: TrackedRun, server: Server, tmp_path: Path
) -> None:
    rename(run, "flaky")
    with flaky(server.uri, share=0.5, seed=11) as proxy:
        report(run, proxy.uri, range(1, 31), timeout=90)
    assert proxy.failed > 3
    client, one = only_run(server.uri, name="flaky")
    assert one.info.status == "FINISHED"
    assert history(client, one, "loss") == [(step, 1 / (1 + step)) for step in range(1, 31)]
    times = [point.timestamp for point in client.get_metric_history(one.info.run_id, "loss")]
    assert times == sorted(times)
    assert len(one.data.params) == len(run.settings)
    copy = Path(client.download_artifacts(one.info.run_id, "model", str(tmp_path)))
    assert (copy / "adapter.bin").read_bytes() == bytes(range(256)) * 1000
    assert len(run.warned) == 1, run.warned
    assert "500" in run.warned[0]


RAISES = """
    from ftcore import hookimpl

    class Raises:
        def start(self, record): raise RuntimeError("start")
        def log(self, metrics, step, time): raise RuntimeError("log")
        def artifact(self, path, name): raise RuntimeError("artifact")
        def finish(self, status, time): raise RuntimeError("finish")

    class RaisesLater(Raises):
        def start(self, record): return None

    @hookimpl
    def ftcore_make_reporter(run):
        return RaisesLater() if (run.dir / "metrics.jsonl").exists() else Raises()
"""


def test_a_run_whose_trackers_are_down_is_the_same_run_and_is_reported_later(
    server: Server, tmp_path: Path, ftcore: Any, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcore.testing.models import tiny_model

    install("raises-ftcore", {"raises_ftcore": RAISES}, {"raises": "raises_ftcore"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKER_PASSWORD", "pass-of-the-tracker")
    port = free_port()
    rows = [{"question": f"How many {number}?", "answer": f"There are {number}."} for number in range(8)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = "{tiny_model(tmp_path / "tiny")}"
        training_data_id = "data.jsonl"
        load_in_4bit = false
        epochs = 2
        device_train_batch_size = 1
        log_steps = 1
        optimizer = "adamw_torch"
        report_to = ["mlflow", "raises"]
        [stages]
        loader = "transformers"
        [run]
        report_timeout = 1.0
        [mlflow]
        tracking_uri = "http://me:${{TRACKER_PASSWORD}}@127.0.0.1:{port}"
        experiment_name = "run-later"
        """
    )
    assert ftcore("run", "config.toml", "--set", "run.name=alone", "--set", "fine_tuner.report_to=none").code == 0
    outcome = ftcore("run", "config.toml", "--set", "run.name=down")
    assert outcome.code == 0, outcome.err
    assert sorted(line.split(" does not take")[0] for line in outcome.errors if " does not take" in line) == [
        "warning: mlflow",
        "warning: raises",
    ]
    texts = [Path("runs", name, "metrics.jsonl").read_text() for name in ("alone", "down")]
    losses = [[json.loads(line).get("loss") for line in text.splitlines()] for text in texts]
    assert losses[0] == losses[1]
    assert len([loss for loss in losses[0] if loss is not None]) >= 4

    with flaky(server.uri, share=0.0, seed=0, port=port):
        later = ftcore("report", "runs/down", "--timeout", "30", "--to", "mlflow")
        assert later.code == 0, later.err
        again = ftcore("report", "runs/down", "--to", "mlflow")
        assert again.out.splitlines() == ["mlflow     has all records"]
        both = ftcore("report", "runs/down", "--timeout", "1")
    assert both.code == 8
    assert both.errors[-1].startswith("error: raises has not taken ")
    client, one = only_run(server.uri, "run-later", "down")
    manifest = json.loads(Path("runs/down/manifest.json").read_text())
    assert one.info.status == "FINISHED"
    assert abs(one.info.end_time / 1000 - datetime.fromisoformat(manifest["ended_at"]).timestamp()) < 2
    assert [value for _, value in history(client, one, "loss")] == [loss for loss in losses[1] if loss is not None]
    assert one.data.params["mlflow.tracking_uri"] == f"http://***@127.0.0.1:{port}"
    written = b"".join(path.read_bytes() for path in Path("runs").rglob("*") if path.is_file())
    assert b"pass-of-the-tracker" not in written
    assert "pass-of-the-tracker" not in outcome.out + outcome.err + later.out + later.err + both.err


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
        "import ftcore_mlflow; from ftcore.reporting.fan_out import Reporting; from ftcore.contracts import RunRecord\n"
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
            timeout=120,
            check=True,
        )
    assert "mlflow has not taken 2 records" in done.stdout
    assert done.stderr == ""
