"""Two processes that train together: they come to what one comes to, end together, and go on together."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcore import processes
from ftcore.errors import DataError, FtcoreError, Interrupted
from ftcore.run import last_words, several

pytestmark = pytest.mark.xdist_group("together")  # else each worker would make the runs that others are compared with

CONFIG = """
[fine_tuner]
base_model_id = "{model}"
max_sequence_length = 128
training_data_id = "train.jsonl"
validation_data_id = "validation.jsonl"
dtype = "float32"
load_in_4bit = false
use_gradient_checkpointing = false
epochs = 2
device_train_batch_size = 2
device_validation_batch_size = 2
grad_accumulation = 2
learning_rate = 0.01
optimizer = "adamw_torch"
lora_dropout = 0.0
save_steps = 3
log_steps = 1

[stages]
loader = "transformers"

[local]
processes = 2

[run]
sample_answers = 1
sample_tokens = 4
"""
ROWS, STEPS = 37, 10


class Warm:
    """Runs in a folder; see `together.py`."""

    def __init__(self, folder: Path, server: subprocess.Popen[str]) -> None:
        self.folder, self._server = folder, server

    def start(self, name: str, *overrides: str, resume: bool = False) -> int:
        arguments = ["--resume", name] if resume else []
        for item in (f"run.name={name}", *overrides):
            arguments += [item] if item.startswith("--") else ["--set", item]
        return self._ask({"run": arguments, "log": f"{name}.txt"})

    def wait(self, process: int) -> int:
        return self._ask({"wait": process})

    def run(self, name: str, *overrides: str, resume: bool = False) -> dict[str, Any]:
        status = self.wait(self.start(name, *overrides, resume=resume))
        assert status == 0, self.output(name)
        return self.came_to(name)

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text()

    def errors(self, name: str) -> list[str]:
        return [line for line in self.output(name).splitlines() if line.startswith("error:")]

    def dir(self, name: str) -> Path:
        return self.folder / "runs" / name

    def manifest(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.dir(name) / "manifest.json").read_text())
        return found

    def came_to(self, name: str) -> dict[str, Any]:
        """All that two runs must have in common."""
        lines = [json.loads(line) for line in (self.dir(name) / "metrics.jsonl").read_text().splitlines()]
        return {
            "lines": [{key: value for key, value in line.items() if key != "time"} for line in lines],
            "weights": (self.dir(name) / "model" / "adapter_model.safetensors").read_bytes(),
            "train_loss": self.manifest(name)["metrics"]["train_loss"],
        }

    def rank(self, number: int) -> int:
        return int((self.folder / f"rank-{number}.pid").read_text())

    def until_checkpoint(self, name: str, step: int) -> None:
        wait_until(lambda: (self.dir(name) / "checkpoints" / f"checkpoint-{step}").exists())

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_there(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Warm]:
    pytest.importorskip("trl", reason="training needs the extra [train]")
    folder = tmp_path_factory.mktemp("together")
    for name, count in (("train", ROWS), ("validation", 5)):
        rows = [
            {"question": f"How many are {number} and 1?", "answer": f"There are {number + 1}. " * (1 + number % 3)}
            for number in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG.format(model=tiny_llama), encoding="utf-8")
    environment = os.environ | {"FTCORE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as a job's processes have it, but torch reads it when it is loaded
    command = [sys.executable, str(Path(__file__).with_name("together.py")), str(folder)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield Warm(folder, server)
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def slow(warm: Warm) -> Iterator[None]:
    """Steps that take long enough to be interrupted."""
    (warm.folder / "slow").touch()
    yield
    (warm.folder / "slow").unlink()


ALONE = ("local.processes=1", "fine_tuner.device_train_batch_size=4")


@pytest.fixture(scope="module")
def both(warm: Warm) -> dict[str, Any]:
    """What two processes come to; the first run, with nothing in the cache."""
    return warm.run("both")


@pytest.fixture(scope="module")
def dropping(warm: Warm, both: dict[str, Any]) -> dict[str, Any]:
    """What two processes come to whose random states matter."""
    return warm.run("dropping", "fine_tuner.lora_dropout=0.2")


def losses(came: dict[str, Any], key: str) -> list[float]:
    return [line[key] for line in came["lines"] if key in line]


@pytest.mark.slow
def test_two_processes_come_to_what_one_comes_to(warm: Warm, both: dict[str, Any]) -> None:
    alone = warm.run("alone", *ALONE)
    assert len(losses(both, "loss")) == len(losses(alone, "loss")) == STEPS
    assert len(losses(both, "eval_loss")) == len(losses(alone, "eval_loss")) == 3
    for key in ("loss", "eval_loss", "grad_norm"):
        # The last step of an epoch has 5 rows, so one of the processes has nothing in its last batch.
        assert losses(both, key) == pytest.approx(losses(alone, key), rel=1e-4), key
    assert losses(both, "loss")[-1] < losses(both, "loss")[0] - 0.1
    assert both["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)


@pytest.mark.slow
def test_packed_rows_are_shared_too_and_sums_rounded_once(warm: Warm) -> None:
    packed = ("fine_tuner.packing=true", "fine_tuner.grad_accumulation=1", "fine_tuner.dtype=bfloat16")
    both, alone = warm.run("packed", *packed), warm.run("packed-alone", *packed, *ALONE)
    assert "layers rounded once" in warm.output("packed")
    assert len(losses(both, "loss")) > 4
    assert losses(both, "loss") == pytest.approx(losses(alone, "loss"), abs=0.02)


@pytest.mark.slow
def test_the_main_process_writes_and_tells(warm: Warm, both: dict[str, Any]) -> None:
    counts = (warm.folder / "prepared.txt").read_text().split()
    assert counts.count(str(ROWS)) == 1  # the other one waited for it
    assert not list(warm.folder.glob("cache/prepared/.*"))
    names = {path.name for path in warm.dir("both").iterdir()}
    assert names - {".run.lock", ".job.lock"} == {
        "audit.json", "checkpoints", "config.toml", "manifest.json", "metrics.jsonl", "model", "reporting", "run.log",
        "run.1.log",
    }  # fmt: skip
    told = warm.output("both").splitlines()
    assert [line for line in told if told.count(line) > 1 and line] == []
    assert not [line for line in told if "[transformers]" in line]
    manifest = warm.manifest("both")
    assert (manifest["status"], manifest["processes"]) == ("finished", 2)
    checkpoint = warm.dir("both") / "checkpoints" / "checkpoint-10"
    assert {"rng_state_0.pth", "rng_state_1.pth"} < {path.name for path in checkpoint.iterdir()}


@pytest.mark.slow
def test_sums_are_rounded_once_with_gradient_checkpointing_too(warm: Warm, both: dict[str, Any]) -> None:
    found = warm.run("half", "fine_tuner.dtype=bfloat16", "fine_tuner.use_gradient_checkpointing=true")
    assert "layers rounded once" in warm.output("half")
    assert losses(found, "loss") == pytest.approx(losses(both, "loss"), abs=0.03)


@pytest.mark.slow
@pytest.mark.usefixtures("slow")
def test_where_one_is_killed_the_other_ends_and_both_go_on(warm: Warm, dropping: dict[str, Any]) -> None:
    process = warm.start("killed", "fine_tuner.lora_dropout=0.2")
    warm.until_checkpoint("killed", 3)
    os.kill(warm.rank(1), signal.SIGKILL)
    began = time.monotonic()
    assert warm.wait(process) == 6
    assert time.monotonic() - began < 100  # the other one would wait half an hour
    (error,) = warm.errors("killed")
    assert error.startswith("error: rank 1 of 2 was ended by SIGKILL")
    assert "--resume killed" in error
    assert not is_there(warm.rank(0))
    manifest = warm.manifest("killed")
    assert manifest["status"] == "failed"
    assert manifest["error"] == error.removeprefix("error: ")
    process = warm.start("killed", "fine_tuner.lora_dropout=0.2", "local.processes=1", resume=True)
    assert warm.wait(process) == 2
    assert "the number of processes was 2 and is 1" in warm.output("killed")
    assert warm.run("killed", "fine_tuner.lora_dropout=0.2", resume=True) == dropping


@pytest.mark.slow
@pytest.mark.usefixtures("slow")
def test_a_signal_to_the_launcher_or_its_end_leaves_a_checkpoint_and_nobody(
    warm: Warm, dropping: dict[str, Any]
) -> None:
    process = warm.start("stopped", "fine_tuner.lora_dropout=0.2")
    warm.until_checkpoint("stopped", 3)
    os.kill(process, signal.SIGTERM)
    assert warm.wait(process) == 130
    (error,) = warm.errors("stopped")
    assert error.startswith("error: the run was interrupted after step ")
    assert warm.output("stopped").count("once more to stop at once") == 1
    assert not [number for number in (0, 1) if is_there(warm.rank(number))]
    assert warm.manifest("stopped")["status"] == "interrupted"
    saved = warm.manifest("stopped")["steps"]
    assert (warm.dir("stopped") / "checkpoints" / f"checkpoint-{saved}").exists()

    process = warm.start("stopped", "fine_tuner.lora_dropout=0.2", resume=True)
    wait_until(lambda: f"step {saved + 1}/" in warm.output("stopped") or not is_there(process))
    os.kill(process, signal.SIGKILL)
    assert warm.wait(process) == -signal.SIGKILL
    wait_until(lambda: not is_there(warm.rank(0)) and not is_there(warm.rank(1)))
    assert warm.manifest("stopped")["status"] == "interrupted"
    assert warm.manifest("stopped")["steps"] > saved

    assert warm.run("stopped", "fine_tuner.lora_dropout=0.2", resume=True) == dropping


@pytest.mark.slow
@pytest.mark.usefixtures("slow")
def test_a_signal_to_one_process_stops_both_behind_the_same_step(warm: Warm) -> None:
    process = warm.start("one")
    warm.until_checkpoint("one", 3)
    os.kill(warm.rank(1), signal.SIGTERM)
    assert warm.wait(process) == 130
    (error,) = warm.errors("one")
    saved = warm.manifest("one")["steps"]
    assert f"interrupted after step {saved}:" in error
    states = {path.name for path in (warm.dir("one") / "checkpoints" / f"checkpoint-{saved}").glob("rng_state_*")}
    assert states == {"rng_state_0.pth", "rng_state_1.pth"}


@pytest.mark.slow
def test_an_error_of_both_is_told_once(warm: Warm, both: dict[str, Any]) -> None:
    assert warm.wait(warm.start("nothing", "--trace", "fine_tuner.training_data_id=missing.jsonl")) == 4
    (error,) = warm.errors("nothing")
    assert warm.output("nothing").count("Where the time of plugins went") == 2  # of the launcher's, and of the job's
    assert "missing.jsonl" in error
    assert "rank" not in error
    assert "Traceback" not in warm.output("nothing")
    assert warm.manifest("nothing")["status"] == "failed"


@pytest.mark.slow
def test_an_error_of_one_is_told_with_its_rank(warm: Warm, both: dict[str, Any]) -> None:
    (warm.folder / "broken").touch()
    try:
        # The main process waits for the other one to meet it, and cannot be asked to stop.
        assert warm.wait(warm.start("broken", "run.sample_answers=0", "fine_tuner.max_sequence_length=127")) == 4
    finally:
        (warm.folder / "broken").unlink()
    assert warm.errors("broken") == ["error: rank 1 of 2: these rows are broken. Mend them"]
    assert not is_there(warm.rank(0))
    assert warm.manifest("broken")["status"] == "failed"
    assert "these rows are broken" in warm.manifest("broken")["error"]


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_both_and_is_told_once(warm: Warm, dropping: dict[str, Any]) -> None:
    limited = warm.folder / "limited"
    limited.write_text("200000")  # less than the optimizer's states
    try:
        assert warm.wait(warm.start("full", "fine_tuner.lora_dropout=0.2")) == 9
    finally:
        limited.unlink()
    (error,) = warm.errors("full")
    assert "checkpoint-3 could not be written" in error
    assert warm.manifest("full")["status"] == "failed"
    assert not [number for number in (0, 1) if is_there(warm.rank(number))]
    assert warm.run("full", "fine_tuner.lora_dropout=0.2", resume=True) == dropping


class Watched:
    """As much of `ftcore.contracts.Run` as is needed."""

    name = "there"

    def __init__(self, folder: Path) -> None:
        self.dir = folder


def together(folder: Path, code: str, count: int = 2) -> None:
    begin = "import os, sys, time, signal; rank = int(os.environ['RANK']); "
    run: Any = Watched(folder)
    processes.run_together(run, [sys.executable, "-c", begin + code], count)


def test_each_process_finds_its_place(tmp_path: Path) -> None:
    names = "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    together(tmp_path, f"open({str(tmp_path)!r} + f'/{{rank}}', 'w').write(' '.join(os.environ[n] for n in {names}))")
    first, second = ((tmp_path / str(number)).read_text().split() for number in (0, 1))
    assert first[:4] == ["0", "0", "2", "127.0.0.1"]
    assert second == ["1", "1", *first[2:]]


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("rank or time.sleep(60); sys.exit(5)", "rank 1 of 2 ended with exit status 5: the model", 5),
        ("rank and os.kill(os.getpid(), 9); time.sleep(60)", "rank 1 of 2 was ended by SIGKILL", 6),
        ("sys.exit(130)", "Type ftcore run CONFIG --resume there", 130),
    ],
)
def test_where_one_fails_the_others_end(tmp_path: Path, code: str, message: str, status: int) -> None:
    code = code.replace("rank or time.sleep(60)", "time.sleep(60 * (rank == 0))")
    with pytest.raises(FtcoreError, match=message) as raised:
        together(tmp_path, code)
    assert raised.value.exit_code == status


def test_who_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.3)
    began = time.monotonic()
    code = f"signal.signal(15, signal.SIG_IGN); f = {str(tmp_path / 'ready')!r}; "
    code += "rank == 0 and (open(f, 'w').close() or time.sleep(60)); "
    code += "[time.sleep(0.01) for _ in iter(lambda: os.path.exists(f), True)]; sys.exit(7)"
    with pytest.raises(FtcoreError, match="rank 1 of 2 ended with exit status 7"):
        together(tmp_path, code)
    assert time.monotonic() - began < 40  # it sleeps for 60 s


def test_the_words_of_who_failed_are_told_and_not_of_who_lost_it(tmp_path: Path) -> None:
    lost = last_words.lost(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer [127.0.0.1]:1"))
    assert lost is not None
    assert last_words.lost(ValueError("Connection closed by peer")) is None
    leave = (
        "from pathlib import Path; from ftcore.run import last_words; from ftcore.errors import *; "
        "first = TrainingError(last_words.LOST); second = DataError('bad', why='rows', fix='Mend them'); "
        f"folder = Path({str(tmp_path)!r}); last_words.leave(folder, rank, second if rank else first); "
        "[time.sleep(0.01) for _ in iter(lambda: last_words.of(folder, 1) is not None, True)]; sys.exit((6, 4)[rank])"
    )
    with pytest.raises(DataError, match=r"^rank 1 of 2: bad: rows\. Mend them$") as raised:
        together(tmp_path, leave)
    assert raised.value.exit_code == 4


def test_a_signal_is_passed_on(tmp_path: Path) -> None:
    # The process that launches is told to stop by one of those that it has launched.
    code = "signal.signal(15, lambda *_: sys.exit(130)); rank and time.sleep(0.3); "
    code += "rank and os.kill(os.getppid(), 15); time.sleep(60)"
    with pytest.raises(Interrupted):
        together(tmp_path, code)


@pytest.mark.parametrize(
    ("own", "main", "told"),
    [("bad rows", "bad rows", True), ("bad rows", "no model", False), (last_words.LOST, "no model", True)],
)
def test_what_the_main_process_tells_the_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, main: str, told: bool
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(several, "_WAIT", 0.1)
    last_words.leave(tmp_path, 0, DataError(main))
    with pytest.raises(SystemExit if told else DataError) as raised, several.launched(tmp_path):
        raise DataError(own)
    assert str(raised.value) == ("4" if told else f"rank 1: {own}")


def test_a_run_is_not_begun_in_each_of_several_processes(ftcore: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d"\n')
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = ftcore("run", "config.toml")
    assert outcome.code == 2
    assert "this is one of 2 processes" in outcome.errors[-1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_training_is_refused(load: Any, plugins: Any, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    from ftcore_sft import ftcore_check

    assert not [problem for problem in ftcore_check(load("")) if "cannot do" in problem.message]
    monkeypatch.setenv(variable, "true")
    (problem,) = [problem for problem in ftcore_check(load("")) if "cannot do" in problem.message]
    assert problem.severity == "error"


@pytest.mark.parametrize(("count", "size", "processes"), [(37, 2, 2), (8, 2, 2), (5, 4, 3), (1, 2, 4), (16, 1, 3)])
def test_every_example_is_in_one_process_once(count: int, size: int, processes: int) -> None:
    pytest.importorskip("torch")
    from accelerate.data_loader import SeedableRandomSampler

    from ftcore_sft.shares import Share, ShuffledSampler, WithFillers

    sampler = ShuffledSampler(count, seed=3)
    for epoch in (0, 1):
        shares = [Share(sampler, size, number, processes, fill=True) for number in range(processes)]
        for share in shares:
            share.set_epoch(epoch)
        batches = [list(share) for share in shares]
        assert {len(own) for own in batches} == {len(shares[0])} == {math.ceil(math.ceil(count / size) / processes)}
        taken = sorted(index for own in batches for batch in own for index in batch if index >= 0)
        assert taken == list(range(count))
        fillers = [batch for own in batches for batch in own if min(batch) < 0]
        assert all(len(batch) == 1 for batch in fillers)
        assert [[index for batch in batches for index in batch] for batches in shares[0].rounds()] == [
            [index for own in batches if number < len(own) for index in own[number] if index >= 0]
            for number in range(len(shares[0]))
        ]
        evaluated = [Share(range(count), size, number, processes, fill=False) for number in range(processes)]
        assert sorted(index for share in evaluated for batch in share for index in batch) == list(range(count))
        assert [len(share) for share in evaluated] == [len(list(share)) for share in evaluated]
        alone = SeedableRandomSampler(range(count), data_seed=3)
        alone.set_epoch(epoch)
        assert list(sampler) == list(alone)
    filled = WithFillers([{"input_ids": [4, 5], "labels": [4, 5]}])
    assert filled.__getitems__([0, ~0]) == [filled[0], {"input_ids": [4, 5], "labels": [-100, -100]}]
