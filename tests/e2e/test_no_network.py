"""A whole fine-tune with local data asks the network for nothing: not ftcore, not a library under it, not a child.

Two observers watch. In a network namespace whose only interface is the loopback, the kernel counts every packet and
connection for which there is no route, whoever in the process tree wanted it. And an audit hook in every Python process
writes down whom it wanted to reach.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftcore.telemetry import OFF

HOOK = """
import os, sys

def _watch(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
        host = host.decode() if isinstance(host, bytes) else host
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            _write(f"looked up {host}")
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        if not str(arguments[1][0]).startswith(("127.", "::1", "localhost")):
            _write(f"{event} {arguments[1]}")

def _write(line):
    with open(os.environ["ATTEMPTS"], "a") as file:
        file.write(f"{line} from {sys.argv[:3]}\\n")

sys.addaudithook(_watch)
"""

INSIDE = """
import fcntl, json, socket, struct, subprocess, sys

def up(interface):
    with socket.socket() as one:
        request = struct.pack("16sh", interface.encode(), 0)
        flags = struct.unpack("16sh", fcntl.ioctl(one, 0x8913, request + bytes(14))[:18])[1]
        fcntl.ioctl(one, 0x8914, struct.pack("16sh", interface.encode(), flags | 1) + bytes(14))

def without_route():
    lines = [line.split() for line in open("/proc/net/snmp") if line.startswith("Ip:")]
    count = int(dict(zip(*lines))["OutNoRoutes"])
    for line in open("/proc/net/snmp6"):
        if line.startswith("Ip6OutNoRoutes"):
            count += int(line.split()[1])
    return count

if len(sys.argv) > 1:
    up("lo")
    code = subprocess.run(sys.argv[1:]).returncode
    print(json.dumps({"code": code, "without_route": without_route()}))
"""


@dataclass(frozen=True)
class Seen:
    """What a command did.

    Attributes:
        attempts: whom its Python processes wanted to reach.
        without_route: the kernel's count; None where there is no namespace to be had.
    """

    code: int
    output: str
    attempts: list[str]
    without_route: int | None


def watched(folder: Path, arguments: Sequence[str], **environment: str) -> Seen:
    """Run Python with `arguments` under both observers, in an environment that says nothing about telemetry."""
    (folder / "sitecustomize.py").write_text(HOOK)
    (folder / "inside.py").write_text(INSIDE)
    attempts = folder / "attempts.txt"
    attempts.write_text("")
    loud = {"HF_HUB_OFFLINE", "DO_NOT_TRACK", "WANDB_SILENT", "CI", "PYTEST_CURRENT_TEST", *OFF}
    variables = {name: value for name, value in os.environ.items() if name not in loud}
    variables |= {"PYTHONPATH": str(folder), "ATTEMPTS": str(attempts), "HF_HOME": str(folder / "hf"), **environment}
    command = [sys.executable, *arguments]
    if namespaces():
        command = ["unshare", "-rn", sys.executable, str(folder / "inside.py"), *command]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)
    code, count = done.returncode, None
    if namespaces():
        result = json.loads(done.stdout.splitlines()[-1])
        code, count = result["code"], result["without_route"]
    return Seen(code, done.stdout + done.stderr, attempts.read_text().splitlines(), count)


def namespaces() -> bool:
    """Whether this user may make a network namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


def test_a_fine_tune_with_local_data_wants_nobody(tmp_path: Path, tiny_llama: Path) -> None:
    rows = [{"question": f"How many {number}?", "answer": f"There are {number}."} for number in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = "{tiny_llama}"
        training_data_id = "data.jsonl"
        validation_data_id = "data.jsonl"
        load_in_4bit = false
        dataset_num_proc = 2
        epochs = 1
        save_steps = 1
        optimizer = "adamw_torch"
        report_to = ["mlflow", "tensorboard", "wandb"]
        [run]
        name = "r"
        sample_answers = 1
        [wandb]
        mode = "offline"
        """
    )
    seen = watched(tmp_path, ["-m", "ftcore", "run", "config.toml"])
    assert seen.code == 0, seen.output
    assert seen.attempts == []
    assert seen.without_route in (0, None)
    assert "has not taken" not in seen.output
    written = {path.name for path in (tmp_path / "runs").rglob("*")}
    assert {"adapter_model.safetensors", "mlflow.db"} <= written
    assert any(name.endswith(".wandb") for name in written)


def test_the_observers_would_have_seen_an_attempt(tmp_path: Path) -> None:
    """What is off by ftcore's doing goes out where the user has set the variable: this is what the other test is for."""
    script = (
        "from ftcore import telemetry; telemetry.switch_off()\n"
        "from huggingface_hub.utils import _telemetry; _telemetry.send_telemetry('ftcore-test')\n"
        "thread = _telemetry._TELEMETRY_THREAD\n"
        "if thread is not None: _telemetry._TELEMETRY_QUEUE.join()\n"
    )
    off = watched(tmp_path, ["-c", script])
    assert (off.code, off.attempts, off.without_route or 0) == (0, [], 0), off.output
    on = watched(tmp_path, ["-c", script], HF_HUB_DISABLE_TELEMETRY="0")
    assert any("huggingface.co" in attempt for attempt in on.attempts)
    assert on.without_route is None or on.without_route > 0


def test_the_user_s_own_choice_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcore import telemetry

    for name in OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNSLOTH_DISABLE_STATISTICS", "")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    telemetry.switch_off()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert os.environ["UNSLOTH_DISABLE_STATISTICS"] == ""
    assert {name: os.environ[name] for name in OFF} == {
        **OFF, "MLFLOW_DISABLE_TELEMETRY": "false", "UNSLOTH_DISABLE_STATISTICS": "",
    }  # fmt: skip
