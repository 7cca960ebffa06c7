"""The table that a run leaves, and what becomes of it when things go wrong."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from csv_reporter_ftcore import CsvSettings
from csv_reporter_ftcore.reporter import CsvReporter
from ftcore.contracts import Logged, RunRecord
from ftcore.errors import RecordRefused, ReportError
from ftcore.testing import PluginSetup, check_plugin


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def started(folder: Path, external_id: str | None = None) -> CsvReporter:
    reporter = CsvReporter(None)
    reporter.start(RunRecord("r", folder, {}, {}, external_id))
    return reporter


def loss(step: int, value: float, time: float = 0.5) -> Logged:
    return Logged({"loss": value}, step, time + step)


def test_it_keeps_the_rules() -> None:
    check_plugin("csv", setup=PluginSetup(down={"csv": {"path": "/dev/null/{run}.csv"}}))


def test_a_run_and_the_same_run_reported_later(ftcore_project: Any) -> None:
    project = ftcore_project
    project.data([{"question": "How many?", "answer": "Two."}] * 6)
    project.data([{"question": "How many?", "answer": "Two."}] * 2, name="validation.jsonl")
    run = project.run({"fine_tuner": {"report_to": "csv"}, "csv": {"path": "tables/{run}.csv"}})
    path = project.path / "tables" / f"{run.path.name}.csv"
    lines = table(path)
    assert [line["step"] for line in lines if line["loss"]] == ["1", "2", "3"]
    losses = [metrics["loss"] for metrics in run.metrics if "loss" in metrics]
    assert [float(line["loss"]) for line in lines if line["loss"]] == losses
    assert {line["step"] for line in lines if line["eval_loss"]} == {"0", "3"}  # before and after training

    assert project.ftcore("report", run.path, "--to", "csv").exit_code == 0
    assert table(path) == lines  # it has all records already

    plain = project.run({"run": {"name": "plain"}})
    assert not (plain.path / "metrics.csv").exists()
    assert project.ftcore("report", plain.path, "--to", "csv").exit_code == 0
    assert len(table(plain.path / "metrics.csv")) == len(plain.metrics)


def test_a_metric_that_appears_later_is_one_more_column(tmp_path: Path) -> None:
    reporter = started(tmp_path)
    reporter.log_many([loss(1, 2.0), loss(2, 1.5)])
    reporter.log({"eval_loss": 1.75, "a, b": 3.0}, 2, 9.0)
    reporter.log_many([loss(3, 1.0)])
    lines = table(tmp_path / "metrics.csv")
    assert list(lines[0]) == ["step", "time", "loss", "eval_loss", "a, b"]
    assert [(line["step"], line["loss"], line["eval_loss"], line["a, b"]) for line in lines] == [
        ("1", "2.0", "", ""), ("2", "1.5", "", ""), ("2", "", "1.75", "3.0"), ("3", "1.0", "", "")
    ]  # fmt: skip


def test_nothing_is_there_twice(tmp_path: Path) -> None:
    reporter = started(tmp_path)
    reporter.log_many([loss(1, 2.0), loss(2, 1.5), loss(3, float("nan"))])
    once = (tmp_path / "metrics.csv").read_bytes()
    reporter.log_many([loss(2, 1.5), loss(3, float("nan"))])
    again = started(tmp_path, external_id="known")
    again.log_many([loss(1, 2.0), loss(2, 1.5)])
    assert (tmp_path / "metrics.csv").read_bytes() == once
    again.log_many([loss(2, 1.25, time=100.0), loss(3, 1.0, time=100.0), loss(4, 0.5)])  # trained again
    assert [(line["step"], line["loss"]) for line in table(tmp_path / "metrics.csv")] == [
        ("1", "2.0"), ("2", "1.25"), ("3", "1.0"), ("4", "0.5")
    ]  # fmt: skip


def test_a_line_that_was_cut_off_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    reporter = started(tmp_path)
    reporter.log_many([loss(1, 2.0)])
    with path.open("a") as file:  # a disk that was full for a while
        file.write("2,2.5,1")
    reporter.log_many([loss(2, 1.5)])
    with path.open("a") as file:  # a process that was killed
        file.write("3,3.5")
    started(tmp_path, external_id="known").log_many([loss(3, 1.0)])
    assert [line["loss"] for line in table(path)] == ["2.0", "1.5", "1.0"]


def test_an_earlier_run_of_the_name_leaves_no_lines(tmp_path: Path) -> None:
    started(tmp_path).log_many([loss(1, 2.0), loss(9, 0.1)])
    started(tmp_path).log_many([loss(1, 1.0)])
    assert [line["loss"] for line in table(tmp_path / "metrics.csv")] == ["1.0"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("name,price\nanvil,3\n")
    with pytest.raises(ReportError, match="was not written by csv"):
        started(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "name,price\nanvil,3\n"


def test_a_metric_with_the_name_of_a_column_is_refused(tmp_path: Path) -> None:
    reporter = started(tmp_path)
    with pytest.raises(RecordRefused, match="the metric time"):
        reporter.log_many([loss(1, 2.0), Logged({"time": 1.0}, 2, 0.0)])
    assert table(tmp_path / "metrics.csv") == []


def test_a_relative_path_stays_where_the_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    first = CsvReporter(Path("r.csv"))
    known = first.start(RunRecord("r", tmp_path, {}, {}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    CsvReporter(Path("r.csv")).start(RunRecord("r", tmp_path, {}, {}, known))
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == []


def test_two_runs_cannot_share_a_file() -> None:
    with pytest.raises(ValidationError, match=r"\{run\} has to stand in it"):
        CsvSettings(path="metrics.csv")


def test_the_readmes_settings_are_valid() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    tables = tomllib.loads(readme.partition("```toml\n")[2].partition("```")[0])
    CsvSettings(**tables["csv"])
