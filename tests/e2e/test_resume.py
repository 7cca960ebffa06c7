"""Runs that end before their time, and go on: from the same checkpoint to the same losses and weights."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftcore.run.locks import Lock

if TYPE_CHECKING:
    from conftest import Ftcore, Install, Outcome

pytest.importorskip("trl", reason="training needs the extra [train]")

CONFIG = """
[fine_tuner]
base_model_id = "{model}"
training_data_id = "train.jsonl"
validation_data_id = "validation.jsonl"
load_in_4bit = false
epochs = 2
device_train_batch_size = 2
grad_accumulation = 2
optimizer = "adamw_torch"
lr_scheduler_type = "cosine"
save_steps = 3
save_total_limit = 2
log_steps = 4

[stages]
loader = "transformers"

[run]
name = "r"
sample_answers = 1
sample_tokens = 4
"""
STEPS = 12


class Project:
    """A folder with a configuration, its data and its runs; `ftcore` runs in it."""

    def __init__(self, folder: Path, ftcore: Ftcore, model: Path) -> None:
        self.folder, self._ftcore = folder, ftcore
        rows = [
            {"question": f"How many are {number} and 1?", "answer": f"There are {number + 1}. " * (1 + number % 3)}
            for number in range(24)
        ]
        self.write("train", rows)
        self.write("validation", [{"question": "And 30 and 1?", "answer": "There are 31."}] * 3)
        (folder / "config.toml").write_text(CONFIG.format(model=model), encoding="utf-8")

    def write(self, name: str, rows: list[dict[str, str]]) -> None:
        (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def run(self, *options: str) -> Outcome:
        return self._ftcore("run", "config.toml", *options)

    @property
    def dir(self) -> Path:
        return self.folder / "runs" / "r"

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.dir / "manifest.json").read_text())
        return found

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.dir / "checkpoints").iterdir())

    def came_to(self) -> dict[str, Any]:
        """All that two runs must have in common."""
        lines = [json.loads(line) for line in (self.dir / "metrics.jsonl").read_text().splitlines()]
        return {
            "lines": [{key: value for key, value in line.items() if key != "time"} for line in lines],
            "weights": (self.dir / "model" / "adapter_model.safetensors").read_bytes(),
            "metrics": {key: value for key, value in self.manifest["metrics"].items() if "loss" in key},
            "status": self.manifest["status"],
            "answers": self.manifest["progress"]["after"]["answers"],
        }


@pytest.fixture
def project(tmp_path: Path, ftcore: Ftcore, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, ftcore, tiny_llama)


_whole: dict[str, Any] = {}


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, ftcore: Ftcore, tiny_llama: Path) -> dict[str, Any]:
    """What an undisturbed run comes to."""
    if not _whole:
        folder = tmp_path_factory.mktemp("whole")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            undisturbed = Project(folder, ftcore, tiny_llama)
            outcome = undisturbed.run()
            assert outcome.code == 0, outcome.err
            _whole.update(undisturbed.came_to())
            assert undisturbed.checkpoints == ["checkpoint-12", "checkpoint-9"]
    return _whole


@contextmanager
def once(condition: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Do something from the side when a condition holds."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if condition():
                act()
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def stopped(project: Project, step: int, number: int = signal.SIGTERM) -> Iterator[None]:
    """A signal for this process when the checkpoint of a step is there."""
    there = project.dir / "checkpoints" / f"checkpoint-{step}"
    before = signal.signal(number, lambda *_: None)  # a run that was over sooner does not take pytest with it
    try:
        with once(there.exists, lambda: os.kill(os.getpid(), number)):
            yield
    finally:
        signal.signal(number, before)


def interrupted(project: Project, step: int = 3) -> int:
    """A run that was told to stop when the checkpoint of a step was there; the step of its own last checkpoint."""
    with stopped(project, step):
        assert project.run().code == 130
    return max(int(name.rpartition("-")[2]) for name in project.checkpoints)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_a_checkpoint_and_goes_on_as_if_nothing_had_been(
    project: Project, whole: dict[str, Any], number: int
) -> None:
    with stopped(project, 3, number):
        outcome = project.run()
    assert outcome.code == 130
    assert "stopping after this step; once more to stop at once" in outcome.err
    last = max(int(name.rpartition("-")[2]) for name in project.checkpoints)
    assert outcome.errors[-1] == (
        f"error: the run was interrupted after step {last}: a checkpoint is saved in runs/r. "
        "Type ftcore run CONFIG --resume r to go on"
    )
    assert (project.manifest["status"], project.manifest["steps"]) == ("interrupted", last)
    assert not (project.dir / "model").exists()

    again = project.run("--resume")
    assert again.code == 0, again.err
    assert f"resuming   from checkpoint-{last}" in again.out
    assert "before     eval_loss" not in again.out
    assert project.came_to() == whole
    assert project.manifest["resumptions"][0]["from_step"] == last
    assert (project.manifest["error"], project.manifest["resumptions"][0]["changes"]) == (None, [])

    over = project.run("--resume")
    assert (over.code, over.out.splitlines()[1]) == (0, "finished   nothing is left to do")
    assert not [line for line in over.errors if "no effect" in line]
    late = project.run("--resume", "--set", "fine_tuner.rank=3")
    (told,) = [line for line in late.errors if "no effect" in line]
    assert told.startswith("warning: the run is over, so this has no effect: fine_tuner.rank was ")
    assert told.endswith(" and is 3. Train again, with another [run] name")


def test_an_evaluation_that_a_stop_left_out_is_made_up_for(project: Project, whole: dict[str, Any]) -> None:
    often = ("--set", "sft.eval_steps=1")
    with stopped(project, 3):
        assert project.run(*often).code == 130
    outcome = project.run("--resume", *often)
    assert outcome.code == 0, outcome.err
    evaluated = [line for line in project.came_to()["lines"] if "eval_loss" in line]
    assert [line["step"] for line in evaluated] == list(range(STEPS + 1))
    others = [line for line in project.came_to()["lines"] if "eval_loss" not in line]
    assert others == [line for line in whole["lines"] if "eval_loss" not in line]  # evaluating changes nothing
    assert {line["step"]: line for line in evaluated}[6] in whole["lines"]
    assert project.came_to()["weights"] == whole["weights"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(project: Project, whole: dict[str, Any]) -> None:
    last = interrupted(project, 3)
    broken = project.dir / "checkpoints" / f"checkpoint-{last}" / "optimizer.pt"
    with broken.open("rb+") as file:
        file.truncate(1000)
    (project.dir / "checkpoints" / ".writing" / "checkpoint-11").mkdir(parents=True)
    outcome = project.run("--resume")
    assert outcome.code == 0, outcome.err
    assert f"warning: checkpoint-{last} is damaged and not used: optimizer.pt has 1,000 bytes instead of" in outcome.err
    assert "resuming   from checkpoint-3" in outcome.out
    assert project.came_to() == whole
    assert project.checkpoints == ["checkpoint-12", "checkpoint-9", f"damaged-checkpoint-{last}"]


def test_without_a_complete_checkpoint_a_run_begins_again_in_its_directory(
    project: Project, whole: dict[str, Any]
) -> None:
    interrupted(project)
    shutil.rmtree(project.dir / "checkpoints")
    outcome = project.run("--resume")
    assert outcome.code == 0, outcome.err
    assert "resuming   there is no complete checkpoint: training begins again" in outcome.out
    assert project.came_to() == whole


def test_a_first_run_may_be_called_a_resumed_one(project: Project, whole: dict[str, Any]) -> None:
    outcome = project.run("--resume")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("no run of config.toml has begun yet: this is the first\n")
    assert project.came_to() == whole


NOTES = """
    import json
    from pathlib import Path
    from ftcore import hookimpl

    class Notes:
        def write(self, *what):
            with Path("notes.jsonl").open("a") as file:
                file.write(json.dumps(what) + "\\n")

        def start(self, record):
            self.write("start", record.external_id)
            return "run-1"

        def log(self, metrics, step, time):
            self.write("log", step, sorted(metrics))

        def artifact(self, path, name):
            self.write("artifact", name)

        def finish(self, status, time):
            self.write("finish", status)

    @hookimpl
    def ftcore_make_reporter():
        return Notes()
"""


def test_a_tracker_goes_on_with_its_run_and_gets_each_step_once(
    project: Project, whole: dict[str, Any], install: Install
) -> None:
    install("notes-ftcore", {"notes": NOTES}, {"notes": "notes"})
    tracked = ("--set", "fine_tuner.report_to=notes")
    with stopped(project, 3):
        assert project.run(*tracked).code == 130
    # As if it had been killed: the tracker has heard of steps behind the checkpoint that the run goes on from.
    for path in (project.dir / "checkpoints").iterdir():
        if path.name != "checkpoint-3":
            shutil.rmtree(path)
    assert project.run("--resume", *tracked).code == 0
    notes = [json.loads(line) for line in (project.folder / "notes.jsonl").read_text().splitlines()]
    assert [note[1] for note in notes if note[0] == "start"] == [None, "run-1"]
    assert [note[1] for note in notes if note[0] == "finish"] == ["interrupted", "finished"]
    logged = [(step, names) for kind, step, *rest in notes if kind == "log" for names in rest]
    assert logged == [(line["step"], sorted(line.keys() - {"step"})) for line in whole["lines"]]
    assert project.came_to()["lines"] == whole["lines"]


FLAKY = """
    from pathlib import Path
    from ftcore import hookimpl
    from ftcore.contracts import Saved
    from ftcore.errors import SaveError

    @hookimpl
    def ftcore_save(run, trained):
        if not Path("room").exists():
            raise SaveError("the shelf is full", fix="Make room")
        trained.export(run.dir / "shelf")
        return Saved("adapter", "the shelf")
"""


def test_what_follows_the_training_is_taken_up_alone(project: Project, whole: dict[str, Any], install: Install) -> None:
    install("shelf-ftcore", {"shelf": FLAKY}, {"shelf": "shelf"})
    savers = ("--set", 'stages.savers=["local", "shelf"]')
    failed = project.run(*savers)
    assert (failed.code, failed.errors[-1]) == (7, "error: the shelf is full. Make room")
    shutil.copytree(project.dir / "model", project.folder / "as-it-was")
    (project.folder / "room").touch()
    outcome = project.run("--resume", "r", *savers)
    assert outcome.code == 0, outcome.err
    assert "saved      by local before" in outcome.out
    assert "step 4/12" not in outcome.out
    assert "after      eval_loss" not in outcome.out
    assert project.came_to() == whole
    for name in ("adapter_model.safetensors", "README.md"):
        assert (project.dir / "shelf" / name).read_bytes() == (project.folder / "as-it-was" / name).read_bytes()
    assert [item["where"] for item in project.manifest["saved"]] == ["runs/r/model", "the shelf"]


def test_differences_that_matter_are_listed_and_can_be_accepted(project: Project) -> None:
    last = interrupted(project)
    changed = [
        "--set",
        "fine_tuner.learning_rate=0.001",
        "--set",
        "fine_tuner.epochs=1",
        "--set",
        "fine_tuner.log_steps=1",
    ]
    before = (project.dir / "config.toml").read_text()
    refused = project.run("--resume", *changed)
    assert refused.code == 2
    assert refused.errors == [
        "error: fine_tuner.epochs was 2 and is 1: the result depends on it",
        "error: fine_tuner.learning_rate was 0.0002 and is 0.001: the result depends on it",
        "error: the run r cannot go on while these are different. Change it back, or add --accept-changes",
    ]
    assert (project.dir / "config.toml").read_text() == before
    accepted = project.run("--resume", "--accept-changes", *changed)
    assert accepted.code == 0, accepted.err
    assert "note       fine_tuner.log_steps was 4 and is 1" in accepted.out
    assert "accepted   fine_tuner.learning_rate was 0.0002 and is 0.001" in accepted.out
    recorded = project.manifest["resumptions"][-1]
    assert (recorded["accepted"], recorded["from_step"]) == (True, last)
    assert {change["what"]: (change["old"], change["new"]) for change in recorded["changes"]} == {
        "fine_tuner.epochs": ("2", "1"),
        "fine_tuner.learning_rate": ("0.0002", "0.001"),
        "fine_tuner.log_steps": ("4", "1"),
    }
    assert "learning_rate = 0.001" in (project.dir / "config.toml").read_text()
    logged = [json.loads(line)["step"] for line in (project.dir / "metrics.jsonl").read_text().splitlines()]
    assert set(range(last + 1, 7)) <= set(logged)  # log_steps of today, not of the checkpoint


def test_other_data_are_refused_and_the_same_elsewhere_are_not(project: Project, whole: dict[str, Any]) -> None:
    interrupted(project)
    rows = [json.loads(line) for line in (project.folder / "train.jsonl").read_text().splitlines()]
    project.write("train", [*rows[:-1], {"question": "How many?", "answer": "None."}])
    refused = project.run("--resume")
    assert refused.code == 2
    assert refused.errors[-2].startswith("error: the fingerprint of the training examples was ")
    assert refused.errors[-1].endswith("Change it back, or add --accept-changes")
    project.write("moved", [{**row, "source": "a book"} for row in rows])
    outcome = project.run("--resume", "--set", "fine_tuner.training_data_id=moved.jsonl")
    assert outcome.code == 0, outcome.err
    assert 'note       fine_tuner.training_data_id was "train.jsonl" and is "moved.jsonl"' in outcome.out
    assert project.came_to() == whole


def test_a_run_that_is_in_use_is_not_resumed(project: Project) -> None:
    interrupted(project)
    lock = Lock(project.dir, "job")
    try:
        outcome = project.run("--resume")
    finally:
        lock.release()
    assert outcome.code == 2
    assert outcome.errors[-1].startswith("error: the run runs/r is in use: it belongs to process ")
    assert outcome.errors[-1].endswith(". Wait until it ends, or stop it")


def test_a_run_that_is_not_there(project: Project) -> None:
    interrupted(project)
    outcome = project.run("--resume", "q")
    assert (outcome.code, outcome.errors) == (
        2,
        ["error: there is no run q: runs has r. Name one of them"],
    )
    assert project.run("--accept-changes").code == 2


@contextmanager
def files_of_at_most(size: int) -> Iterator[Callable[[], None]]:
    """From the moment on that the function is called, the system writes no file beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_ends_the_run_with_its_last_good_checkpoint(
    project: Project, whole: dict[str, Any]
) -> None:
    there = project.dir / "checkpoints" / "checkpoint-3"
    with files_of_at_most(100_000) as limit, once(there.exists, limit):
        outcome = project.run()
    assert outcome.code == 9
    assert "; the last good checkpoint is runs/r/checkpoints/checkpoint-3. Make room" in outcome.errors[-1]
    assert project.checkpoints == ["checkpoint-3"]
    assert project.manifest["status"] == "failed"
    again = project.run("--resume")
    assert again.code == 0, again.err
    assert project.came_to() == whole


TMPFS = """
mount -t tmpfs -o size=$1 tmpfs runs || exit 77
shift
"$@"
code=$?
ls runs/r/checkpoints
exit $code
"""


def on_a_small_disk(project: Project, size: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The run with its output folder on a file system of its own, in a process of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount with")
    (project.folder / "runs").mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", TMPFS, "sh", size]
    command += [sys.executable, "-m", "ftcore", "run", "config.toml", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project.folder)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.splitlines()[:1]}")
    return done


def test_a_small_disk_is_known_before_the_first_step(project: Project) -> None:
    done = on_a_small_disk(project, "4m")
    assert done.returncode == 9, done.stderr
    assert "error: there is too little room in runs/r: 3 checkpoints of 8 MiB and the model of 8 MiB" in done.stderr
    assert "training   12 steps" not in done.stdout


def test_a_disk_that_is_filled_by_others_ends_the_run_with_its_last_good_checkpoint(
    project: Project, install: Install
) -> None:
    pythonpath = install("filler-ftcore", {"filler": FILLER}, {"filler": "filler"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(pythonpath))
        done = on_a_small_disk(project, "64m")
    assert done.returncode == 9, done.stderr
    assert (
        "could not be written: No space left on device; the last good checkpoint is runs/r/checkpoints/" in done.stderr
    )
    assert "Traceback" not in done.stderr
    kept = done.stdout.splitlines()[-2:]
    assert kept
    assert all(
        name in ("checkpoint-3", "checkpoint-6", "checkpoint-9") for name in kept if name.startswith("checkpoint")
    )


FILLER = """
    import threading, time
    from pathlib import Path
    from ftcore import hookimpl

    @hookimpl
    def ftcore_run_started(run):
        def fill():
            while not (run.dir / "checkpoints" / "checkpoint-3").exists():
                time.sleep(0.001)
            with (run.dir.parent / "film").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1 << 12))
                except OSError:
                    pass
        threading.Thread(target=fill, daemon=True).start()
"""


def test_a_number_that_is_not_finite_ends_the_run_before_it_is_learned(project: Project, tiny_llama: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    poisoned = project.folder / "poisoned"
    shutil.copytree(tiny_llama, poisoned)
    weights = load_file(poisoned / "model.safetensors")
    (token,) = AutoTokenizer.from_pretrained(str(poisoned))("~", add_special_tokens=False)["input_ids"]
    weights["model.embed_tokens.weight"][token] = float("inf")
    save_file(weights, poisoned / "model.safetensors", metadata={"format": "pt"})
    rows = [{"question": f"How many are {number}?", "answer": f"{number}."} for number in range(12)]
    rows[7]["answer"] = "~"
    rows.insert(2, {"question": "", "answer": ""})  # skipped: the numbers are those of the file
    project.write("train", rows)
    options = [f"fine_tuner.base_model_id={poisoned}", "fine_tuner.device_train_batch_size=1", "fine_tuner.epochs=1",
               "fine_tuner.grad_accumulation=2", "fine_tuner.save_steps=1", "audit.max_bad_rows=0.5"]  # fmt: skip
    given = [part for option in options for part in ("--set", option)]
    outcome = project.run(*given)
    assert outcome.code == 6
    error = outcome.errors[-1]
    assert error.startswith("error: the loss is nan at step ")
    step = int(error.split("at step ")[1].split(":")[0])
    named = [int(row) for row in error.split("training rows ")[1].split(";")[0].split(", ")]
    assert len(named) == 2
    assert 8 in named
    last = (
        f"the last good checkpoint is runs/r/checkpoints/checkpoint-{step - 1}"
        if step > 1
        else "there is no checkpoint"
    )
    assert last in error
    assert error.endswith("lower learning_rate, or train on with [sft] stop_on_nonfinite = false")
    assert f"checkpoint-{step}" not in project.checkpoints
    trained_on = project.run(*given, "--set", "run.name=on", "--set", "sft.stop_on_nonfinite=false")
    assert trained_on.code == 0, trained_on.err


def test_a_checkpoint_that_would_run_code_is_not_loaded(project: Project) -> None:
    import pickle

    last = interrupted(project)
    checkpoint = project.dir / "checkpoints" / f"checkpoint-{last}"
    assert not (checkpoint / "training_args.bin").exists()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, ("exploded",))

    import hashlib

    poison = pickle.dumps(Bomb(), protocol=2)
    (checkpoint / "optimizer.pt").write_bytes(poison)
    listing = json.loads((checkpoint / "checkpoint.json").read_text())
    listing["files"]["optimizer.pt"] = {"bytes": len(poison), "sha256": hashlib.sha256(poison).hexdigest()}
    (checkpoint / "checkpoint.json").write_text(json.dumps(listing))
    outcome = project.run("--resume")
    assert outcome.code == 6
    assert (
        f"error: the checkpoint runs/r/checkpoints/checkpoint-{last} cannot be loaded: UnpicklingError" in outcome.err
    )
    assert not Path("exploded").exists()
