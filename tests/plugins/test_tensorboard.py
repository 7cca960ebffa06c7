"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ftcore_tensorboard
from ftcore.contracts import Reporter
from ftcore.reporting.fan_out import Reporting
from ftcore_tensorboard import TensorboardSettings

pytest.importorskip("tensorboard")

if TYPE_CHECKING:
    from conftest import TrackedRun


@pytest.fixture
def run(tracked_run: TrackedRun) -> TrackedRun:
    return tracked_run


def make(run: TrackedRun, **settings: Any) -> Reporter:
    return ftcore_tensorboard.ftcore_make_reporter(run, TensorboardSettings(**settings))


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_curves_settings_and_times_come_back(run: TrackedRun) -> None:
    reporting = Reporting(run.dir, run.say, run.warn)
    reporting.start({"tensorboard": lambda: make(run)}, run.record())
    for step in range(1, 6):
        reporting.log(step, {"loss": 1 / step, "learning_rate": 0.5})
    reporting.log(5, {"eval_loss": 0.25})
    reporting.finish("finished", 30)
    assert run.warned == []

    events = read(run.dir / "tensorboard")
    assert sorted(events.Tags()["scalars"]) == ["eval_loss", "learning_rate", "loss"]
    assert [(point.step, point.value) for point in events.Scalars("loss")] == [
        (step, pytest.approx(1 / step)) for step in range(1, 6)
    ]
    assert [(point.step, point.value) for point in events.Scalars("eval_loss")] == [(5, 0.25)]
    table = events.Tensors("settings")[0].tensor_proto.string_val[0].decode()
    assert "| fine_tuner.epochs | 3 |" in table
    assert '| fine_tuner.target_modules | ["q_proj", "v\\|proj"] |' in table
    assert "ftcore.version" in events.Tensors("tags")[0].tensor_proto.string_val[0].decode()


def test_hyperparameters_and_the_end_are_what_the_hparams_page_reads(run: TrackedRun) -> None:
    from tensorboard.plugins.hparams import api_pb2, metadata

    reporter = make(run)
    reporter.start(run.record())
    reporter.finish("interrupted", 1_763_900_100.0)
    content = read(run.dir / "tensorboard").summary_metadata
    started = metadata.parse_session_start_info_plugin_data(
        content[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert started.hparams["fine_tuner.epochs"].number_value == 3
    assert started.start_time_secs == run.started_at.timestamp()
    ended = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG].plugin_data.content)
    assert ended.status == api_pb2.STATUS_FAILURE
    assert ended.end_time_secs == 1_763_900_100.0


def test_a_point_is_on_the_disk_when_log_returns_with_its_own_time(run: TrackedRun) -> None:
    reporter = make(run)
    reporter.start(run.record())
    reporter.log({"loss": 0.5}, 7, 1234.5)
    (point,) = read(run.dir / "tensorboard").Scalars("loss")
    assert (point.step, point.value, point.wall_time) == (7, 0.5, 1234.5)


def test_a_resumed_run_replaces_the_steps_that_it_repeats(run: TrackedRun) -> None:
    first = make(run)
    first.start(run.record())
    for step in (1, 2, 3):
        first.log({"loss": 1.0}, step, 100.0 + step)
    second = make(run)
    second.start(run.record(str(run.dir / "tensorboard")))
    for step in (2, 3, 4):
        second.log({"loss": 2.0}, step, 200.0 + step)
    points = read(run.dir / "tensorboard").Scalars("loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]


def test_log_dir_collects_runs_by_name(run: TrackedRun, tmp_path: Path) -> None:
    reporter = make(run, log_dir=str(tmp_path / "all runs"))
    reporter.start(run.record())
    reporter.log({"loss": 1.0}, 1, 1.0)
    assert read(tmp_path / "all runs" / "exp-1").Scalars("loss")[0].value == 1.0
    assert not (run.dir / "tensorboard").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_that_core_repeats(run: TrackedRun) -> None:
    reporter = make(run)
    reporter.start(run.record())
    (file,) = (run.dir / "tensorboard").iterdir()
    kept = file.read_bytes()
    file.unlink()
    file.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        reporter.log({"loss": 1.0}, 1, 1.0)
    file.unlink()
    file.write_bytes(kept)
    reporter.log({"loss": 1.0}, 1, 1.0)
    assert len(read(run.dir / "tensorboard").Scalars("loss")) == 1


def test_check_names_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcore.config import load
    from ftcore.plugins import discover

    def messages(report_to: str) -> list[str]:
        file = tmp_path / "config.toml"
        file.write_text(f'[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "hf:d"\nreport_to = "{report_to}"\n')
        found = ftcore_tensorboard.ftcore_check(load(file, discover()))
        return [f"{problem.severity} {problem.message}. {problem.fix}" for problem in found]

    assert messages("tensorboard") == []
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # what an import system answers where nothing is installed
    assert messages("none") == []
    assert messages("tensorboard") == [
        "error report_to names tensorboard, and the package tensorboard is not installed. "
        "Install it: pip install 'ftcore[tensorboard]'"
    ]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, ftcore_tensorboard; print({'tensorboard', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
