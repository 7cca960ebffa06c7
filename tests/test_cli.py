"""The command line: help, exit codes, what goes where."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftcore import __version__, errors, quiet
from ftcore.cli import main as cli_main
from ftcore.errors import EXIT_CODES, FtcoreError

CONFIG = '[fine_tuner]\nbase_model_id = "user/model"\ntraining_data_id = "data.jsonl"\nload_in_4bit = false\n'


@pytest.fixture(autouse=True)
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(CONFIG, encoding="utf-8")


def test_help_lists_every_command_and_the_exit_codes(ftcore: Any) -> None:
    outcome = ftcore("--help")
    assert outcome.code == 0
    width = max(map(len, cli_main.COMMANDS))
    for name, text in cli_main.COMMANDS.items():
        assert f"  {name.ljust(width)}  {text}" in outcome.out
    flat = " ".join(outcome.out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code}: {meaning}." in flat


@pytest.mark.parametrize("command", cli_main.COMMANDS)
def test_every_command_explains_itself(ftcore: Any, command: str) -> None:
    outcome = ftcore(command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: ftcore {command} ")


def test_the_version(ftcore: Any) -> None:
    assert ftcore("--version").out == f"ftcore, version {__version__}\n"


def test_nothing_shows_the_help_and_fails(ftcore: Any) -> None:
    outcome = ftcore()
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: ftcore ")


def test_a_valid_configuration_names_who_serves_it(ftcore: Any) -> None:
    outcome = ftcore("check", "config.toml", "--set", "fine_tuner.report_to=tensorboard")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.out.startswith("config.toml is valid: namer naming, launcher local, loader ")
    assert outcome.out.endswith("data file, trainer sft, reporter tensorboard, saver local\n")


def test_warnings_go_to_standard_error_and_do_not_fail(ftcore: Any) -> None:
    outcome = ftcore("check", "config.toml", "--set", "run.sample_answers=3", "--set", "wandb.project=x")
    assert outcome.code == 0
    assert outcome.errors == [
        "--set run.sample_answers: warning: sample_answers has no effect: there is no validation_data_id. Remove it",
        f"--set wandb.project: warning: [wandb] has no effect: plugin 'wandb' (ftcore {__version__}) serves reporter, "
        "and this run does not use it",
    ]


def test_every_error_has_a_documented_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FtcoreError)]
    assert len(kinds) > 5
    assert {kind.exit_code for kind in kinds} <= EXIT_CODES.keys()


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 130])
def test_errors_end_with_their_code_and_one_line(
    ftcore: Any, monkeypatch: pytest.MonkeyPatch, install: Any, code: int
) -> None:
    kinds = {1: "FtcoreError", 2: "ConfigError", 3: "PluginError", 4: "DataError", 5: "ModelError", 6: "TrainingError",
             7: "SaveError", 130: "Interrupted"}  # fmt: skip
    source = (
        "from ftcore import hookimpl, errors\n@hookimpl\ndef ftcore_register_commands(cli):\n"
        f"    @cli.command()\n    def fail():\n        raise errors.{kinds[code]}('what\\nnow', why='why', fix='Do')\n"
    )
    install("acme", {f"acme_fail_{code}": source}, {"acme": f"acme_fail_{code}"})
    outcome = ftcore("fail")
    assert (outcome.code, outcome.errors) == (code, ["error: what now: why. Do"])


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("a library says so.", "it is so: a library says so. Mend it"),
        ("it is in ..", "it is so: it is in ... Mend it"),
        ("it is in .", "it is so: it is in .. Mend it"),
        ("it is in runs/.", "it is so: it is in runs/.. Mend it"),
        ("", "it is so. Mend it"),
    ],
)
def test_a_message_has_one_full_stop_between_its_parts(why: str, told: str) -> None:
    assert str(FtcoreError("it is so", why=why, fix="Mend it")) == told


def test_a_bug_keeps_its_traceback_and_ends_with_1(install: Any) -> None:
    source = (
        "from ftcore import hookimpl\n@hookimpl\ndef ftcore_register_commands(cli):\n"
        "    @cli.command()\n    def bug():\n        1 / 0\n"
    )
    site = install("acme", {"acme_bug": source}, {"acme": "acme_bug"})
    done = subprocess.run(
        [sys.executable, "-m", "ftcore", "bug"],
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_an_interrupt_ends_with_130(ftcore: Any, install: Any) -> None:
    source = (
        "from ftcore import hookimpl\n@hookimpl\ndef ftcore_register_commands(cli):\n"
        "    @cli.command()\n    def halt():\n        raise KeyboardInterrupt\n"
    )
    install("acme", {"acme_halt": source}, {"acme": "acme_halt"})
    outcome = ftcore("halt")
    assert (outcome.code, outcome.errors[-1]) == (130, "error: interrupted")


def test_a_reader_that_went_away_is_no_error() -> None:
    command = f"{sys.executable} -m ftcore schema | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("{", "", 0)


def test_a_reader_that_has_had_enough_of_many_lines_is_no_error() -> None:
    done = by_shell("ftcore plugins | head -n 1")
    assert (done.stdout[:4], done.stderr, done.returncode) == ("NAME", "", 0)


def by_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("ftcore", f"{sys.executable} -m ftcore")],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    done = by_shell("ftcore schema > /dev/full")
    assert done.stderr == "error: the output cannot be written: No space left on device. Make room\n"
    assert done.returncode == 9


def test_a_terminal_that_does_not_know_a_character_gets_another() -> None:
    Path("質.toml").write_text(CONFIG, encoding="utf-8")
    done = by_shell("ftcore check 質.toml", PYTHONIOENCODING="latin-1:strict", PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("\\u8cea.toml is valid: ")


def test_a_path_that_may_not_be_read_is_no_bug(ftcore: Any, install: Any) -> None:
    source = (
        "from ftcore import hookimpl\n@hookimpl\ndef ftcore_register_commands(cli):\n"
        "    @cli.command()\n    def closed():\n        raise PermissionError(13, 'Permission denied', 'a/b')\n"
    )
    install("acme", {"acme_closed": source}, {"acme": "acme_closed"})
    outcome = ftcore("closed")
    assert (outcome.code, outcome.errors) == (
        2,
        ["error: a/b cannot be used: Permission denied. Check the path, and who may read and write there"],
    )


def test_a_wrong_variable_is_named(ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCORE_TRACE", "perhaps")
    outcome = ftcore("check", "config.toml")
    assert outcome.code == 2
    assert outcome.err.startswith("error: Invalid value for '--trace' (env var: 'FTCORE_TRACE'): 'perhaps' is not")


def test_an_outage_of_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    http = pytest.importorskip("huggingface_hub.utils._http")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(quiet, "_OUTAGES", quiet.HubOutages())
    logger = logging.getLogger("huggingface_hub.utils._http")
    monkeypatch.setattr(logger, "filters", [])
    quiet.tell_of_outages_once()
    quiet.tell_of_outages_once()
    for _ in range(2):
        with pytest.raises(Exception, match="refused"):
            http.http_backoff("GET", "http://127.0.0.1:9/x", max_retries=2, base_wait_time=0)
    assert logger.filter(logger.makeRecord(logger.name, 30, "", 0, "something else", (), None))
    assert capsys.readouterr().err == (
        "warning: the Hugging Face Hub does not answer ([Errno 111] Connection refused); its client tries again, half a "
        "minute for each file\n"
    )


def test_what_a_library_has_shown_is_not_shown_again() -> None:
    program = (
        "import logging\nfrom ftcore.cli import main\n"
        "own = logging.getLogger('acme'); own.addHandler(logging.StreamHandler())\n"
        "try:\n    main.main(['plugins', '--json'])\nexcept SystemExit:\n    pass\n"
        "logging.getLogger('acme.part').warning('told once')\nlogging.getLogger('other').warning('told too')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "told once\nwarning: told too\n"


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    done = by_shell(f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && ftcore check x.toml")
    assert (done.returncode, done.stderr) == (
        2,
        "error: the folder that this was started in is gone. Change to another one: cd\n",
    )


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ftcore", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ftcore, version {__version__}\n"
