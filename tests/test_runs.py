"""The run directory and the run's name."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import tomli

from ftcore.errors import ConfigError
from ftcore.run import runs
from ftcore.run.locks import Lock
from ftcore.run.runs import ActiveRun

NOW = datetime(2025, 6, 29, 14, 30, 22).astimezone()


@pytest.mark.parametrize("name", ["a", "exp-20250629-143022", "0.0.1", "A_b.c-d", "x" * 96])
def test_good_names(name: str) -> None:
    assert runs.validate_name(name, "from run.name") == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("../../etc", "it has the characters '/'"),
        ("/etc/passwd", "it has the characters '/'"),
        ("a b", "it has the characters ' '"),
        ("a\\b:c", "it has the characters ':\\\\'"),
        ("läuft", "it has the characters 'ä'"),
        ("a\nb", "it has the characters '\\n'"),
        ("x" * 97, "it has 97 characters and the Hub takes 96"),
        ("..", "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"),
        (".hidden", "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"),
        ("-rf", "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"),
        ("a..b", "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"),
        ("a--b", "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"),
        ("a.git", "it begins or ends with '.' or '-', contains '..' or '--', or ends with '.git'"),
    ],
)
def test_names_that_are_no_folder_and_no_repository(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runs.validate_name(name, "from run.name")
    shown = name if len(name) <= 40 else name[:40] + "…"
    assert str(caught.value) == (
        f"the run cannot be named {shown!r}: {reason} (from run.name); the name is a folder and a Hub repository. "
        "Use letters, digits, '.', '_' and '-'"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "20250629-143022"),
        ('[mlflow]\nrun_name = "my-model"\n', "my-model"),
        ('[mlflow]\nrun_name_prefix = "exp-"\n', "exp-20250629-143022"),
        ('[mlflow]\nrun_name_suffix = "-v1"\n', "20250629-143022-v1"),
        ('[run]\nname = "0.0.1"\nname_prefix = "exp-"\nname_suffix = "-v1"\n', "exp-0.0.1-v1"),
    ],
)
def test_names_as_configured(load: Any, plugins: Any, text: str, name: str) -> None:
    from ftcore.run.stages import Stages

    assert Stages(load(text), plugins, []).run_name(NOW) == name


@pytest.fixture
def config(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return load('rank = 8\ndtype = "null"\ntarget_modules = ["q_proj"]\n')


def test_a_run_directory_has_the_settings_in_force_and_a_manifest(config: Any, plugins: Any, load: Any) -> None:
    active = runs.create(config, plugins, [], "r1", NOW)
    active.say("hello")
    active.close()
    assert active.dir == Path("runs/r1")
    manifest = json.loads((active.dir / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["run"], manifest["status"], manifest["seed"]) == ("r1", "running", 42)
    assert manifest["plugins"]["local"]["state"] == "ok"
    text = (active.dir / "config.toml").read_text(encoding="utf-8")
    effective = tomli.loads(text)
    assert effective["fine_tuner"]["rank"] == 8
    assert effective["fine_tuner"]["dtype"] == "null"
    assert effective["fine_tuner"]["epochs"] == 30
    again = load(text, whole=True)
    assert again.fine_tuner == config.fine_tuner
    assert again.run == config.run
    assert "INFO hello" in (active.dir / "run.log").read_text(encoding="utf-8")


@pytest.fixture
def named(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return load('[run]\nname = "r1"\n')


def test_a_run_never_takes_anothers_directory(named: Any, plugins: Any) -> None:
    runs.create(named, plugins, [], "r1", NOW).close()
    with pytest.raises(ConfigError) as caught:
        runs.create(named, plugins, [], "r1", NOW)
    assert str(caught.value) == (
        "the run runs/r1 exists: a run never overwrites another. "
        "Choose another name ([run] name), go on with it (--resume), or remove that folder"
    )


def at_once(number: int, make: Callable[[], ActiveRun]) -> list[str]:
    """Several threads make a run at the same moment: the names they got, and the errors."""
    ready, ends = threading.Barrier(number), queue.SimpleQueue[str]()

    def begin() -> None:
        ready.wait()
        try:
            active = make()
        except ConfigError as error:
            ends.put(error.what)
        else:
            ends.put(active.name)
            active.close()

    threads = [threading.Thread(target=begin) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(ends.get() for _ in range(number))


def test_of_runs_with_one_name_at_the_same_moment_one_goes_on(named: Any, plugins: Any) -> None:
    ends = at_once(8, lambda: runs.create(named, plugins, [], "r1", NOW))
    assert ends == ["r1"] + ["the run runs/r1 exists"] * 7


def test_runs_that_begin_in_the_same_second_get_the_next_free_names(config: Any, plugins: Any) -> None:
    ends = at_once(4, lambda: runs.create(config, plugins, [], "20250629-143022", NOW))
    assert ends == ["20250629-143022", "20250629-143022-2", "20250629-143022-3", "20250629-143022-4"]
    manifest = json.loads(Path("runs/20250629-143022-3/manifest.json").read_text())
    assert manifest["run"] == "20250629-143022-3"


def test_a_run_directory_is_used_by_one_process(config: Any, plugins: Any) -> None:
    active = runs.create(config, plugins, [], "r1", NOW)
    look = "from pathlib import Path; from ftcore.run.locks import Lock; Lock(Path('runs/r1')).release()"
    refused = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert refused.returncode == 1
    assert f"the run runs/r1 is in use: it belongs to process {os.getpid()} on " in refused.stderr
    active.close()
    subprocess.run([sys.executable, "-c", look], check=True)


def test_a_lock_ends_with_its_process(config: Any, plugins: Any) -> None:
    runs.create(config, plugins, [], "r1", NOW).close()
    hold = "from pathlib import Path; from ftcore.run.locks import Lock; lock = Lock(Path('runs/r1')); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ConfigError, match=rf"it belongs to process {holder.pid} on "):
            Lock(Path("runs/r1"))
        holder.kill()
        holder.wait()
        Lock(Path("runs/r1")).release()


def test_an_output_dir_that_is_a_file(config: Any, plugins: Any) -> None:
    Path("runs").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^runs is no folder: the run directory would lie in it"):
        runs.create(config, plugins, [], "r1", NOW)


def test_dates_in_a_free_table_are_read_again_as_dates(load: Any, plugins: Any, tmp_path: Path) -> None:
    from ftcore.config import load as load_config

    config = load("loftq_config = { day = 2026-11-23, hour = 07:32:00 }\n")
    (tmp_path / "again.toml").write_text(runs.as_toml(config), encoding="utf-8")
    chosen = {section: list(table) for section, table in config.given.items()}
    assert load_config(tmp_path / "again.toml", plugins, (), chosen).fine_tuner == config.fine_tuner
