"""A checkpoint is complete or not there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ftcore import checkpoints
from ftcore.errors import DiskError
from ftcore.run import metrics


def write(folder: Path, step: int, size: int = 100) -> Path:
    target = folder / f"checkpoint-{step}"
    with checkpoints.writing(target) as scratch:
        (scratch / "weights").mkdir()
        (scratch / "weights" / "a.bin").write_bytes(bytes(size))
        (scratch / "b.json").write_text(f'{{"step": {step}}}')
    return target


def steps(folder: Path) -> list[int]:
    return [checkpoints.step_of(path) for path in checkpoints.in_order(folder)]


def test_what_was_written_is_listed_and_found(tmp_path: Path) -> None:
    written = write(tmp_path, 12)
    listing = json.loads((written / "checkpoint.json").read_text())
    assert listing["step"] == 12
    assert sorted(listing["files"]) == ["b.json", "weights/a.bin"]
    assert listing["files"]["weights/a.bin"]["bytes"] == 100
    assert checkpoints.newest(tmp_path) == checkpoints.Found(written, 12)


def test_the_newest_is_the_one_with_the_highest_step(tmp_path: Path) -> None:
    for step in (100, 9, 20):
        write(tmp_path, step)
    assert steps(tmp_path) == [9, 20, 100]
    assert checkpoints.newest(tmp_path).step == 100


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) == checkpoints.Found(None, 0)
    assert checkpoints.newest(tmp_path / "missing") == checkpoints.Found(None, 0)


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        ("(c / 'b.json').unlink()", "b.json is missing"),
        ("(c / 'b.json').write_text('')", "b.json has 0 bytes instead of 12"),
        (
            "(c / 'weights' / 'a.bin').write_bytes(bytes(99) + b'x')",
            "weights/a.bin has other contents than were written",
        ),
        ("(c / 'checkpoint.json').unlink()", "checkpoint.json is missing"),
        ("(c / 'checkpoint.json').write_text('{\"files\"')", "checkpoint.json cannot be read"),
        ("(c / 'checkpoint.json').write_text('[]')", "checkpoint.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path: Path, damage: str, wrong: str) -> None:
    good, bad = write(tmp_path, 5), write(tmp_path, 10)
    exec(damage, {"c": bad})
    found = checkpoints.newest(tmp_path)
    assert (found.folder, found.step) == (good, 5)
    assert [path for path, _ in found.damaged] == [bad]
    assert found.damaged[0][1].startswith(wrong)


def test_a_damaged_checkpoint_is_set_aside_under_a_name_that_nobody_takes_for_one(tmp_path: Path) -> None:
    for _ in range(2):
        checkpoints.set_aside(write(tmp_path, 5))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "damaged-checkpoint-5",
        "damaged-checkpoint-5-2",
    ]
    assert steps(tmp_path) == []


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with pytest.raises(ZeroDivisionError), checkpoints.writing(tmp_path / "checkpoint-10") as scratch:
        (scratch / "half").write_text("half")
        raise ZeroDivisionError
    assert steps(tmp_path) == [5]
    assert not list(tmp_path.rglob("half"))


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, 5, size=1)
    written = write(tmp_path, 5, size=2)
    assert (written / "weights" / "a.bin").stat().st_size == 2
    assert checkpoints.problem(written) == ""


def test_the_oldest_go_and_never_the_last(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        write(tmp_path, step)
    checkpoints.rotate(tmp_path, 2)
    assert steps(tmp_path) == [15, 20]
    checkpoints.rotate(tmp_path, 0)
    assert steps(tmp_path) == [20]


KILLED = """
import os, signal, sys
from pathlib import Path
from ftcore import checkpoints

folder, fatal = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

for place, name in [(os, "fsync"), (os, "open"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (os, "mkdir")]:
    setattr(place, name, counted(getattr(place, name)))
with checkpoints.writing(folder / "checkpoint-10") as scratch:
    (scratch / "a.bin").write_bytes(b"new")
checkpoints.rotate(folder, 1)
print(calls)
"""


def test_killed_at_every_moment_of_writing_a_checkpoint_one_is_good(tmp_path: Path) -> None:
    """Each call of the system in turn is the last one: before it is the old checkpoint there, after it the new."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    ends = []
    for fatal in range(1, 100):
        folder = tmp_path / str(fatal)
        write(folder, 5)
        done = subprocess.run([sys.executable, str(script), str(folder), str(fatal)], capture_output=True, text=True)
        found = checkpoints.newest(folder)
        assert found.folder is not None
        assert not found.damaged
        if done.returncode == 0:
            assert found.step == 10
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        ends.append(found.step)
        checkpoints.clean(folder)
        assert all(path.name.startswith("checkpoint-") for path in folder.iterdir())
    assert ends == sorted(ends)
    assert {5, 10} == set(ends)
    assert len(ends) > 10


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write larger files, as a full disk does in the middle of one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_that_does_not_fit_names_the_last_good_one(tmp_path: Path) -> None:
    good = write(tmp_path, 5)
    with files_of_at_most(10_000), pytest.raises(DiskError) as refused:
        write(tmp_path, 10, size=20_000)
    assert refused.value.what == f"{tmp_path / 'checkpoint-10'} could not be written"
    assert refused.value.why == f"{os.strerror(27)}; the last good checkpoint is {good}"
    assert refused.value.exit_code == 9
    assert steps(tmp_path) == [5]


def test_whatever_a_library_makes_of_a_full_disk_is_one(tmp_path: Path) -> None:
    for text in ("[enforce fail at inline_container.cc:671] . PytorchStreamWriter failed writing file data/0: file write failed",
                 "Error while serializing: I/O error: No space left on device (os error 28)"):  # fmt: skip
        with pytest.raises(DiskError) as refused, checkpoints.writing(tmp_path / "checkpoint-10"):
            raise RuntimeError(text)
        assert refused.value.why.endswith("; there is no earlier checkpoint")


def test_other_failures_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), checkpoints.writing(tmp_path / "checkpoint-10"):
        raise RuntimeError("a bug")


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    checkpoints.rehearse(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_known_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(DiskError, match="checkpoint-0 could not be written: Not a directory"):
        checkpoints.rehearse(tmp_path / "checkpoints")


def lines(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_metrics_behind_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    records = [(0, "eval_loss"), (1, "loss"), (5, "loss"), (5, "eval_loss"), (6, "loss"), (10, "eval_loss")]
    path.write_text(
        "".join(json.dumps({"step": step, name: 1.0}) + "\n" for step, name in records) + '{"step": 11, "lo'
    )
    assert metrics.cut(path, 5) == 5
    assert lines(path) == [0, 1, 5, 5]
    assert metrics.cut(path, 4) == 0
    assert lines(path) == [0, 1]
    assert metrics.cut(path, -1) == -1
    assert path.read_text() == ""
    assert metrics.cut(tmp_path / "missing.jsonl", 5) == -1
