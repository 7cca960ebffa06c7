"""Memory that really runs out: a process whose address space is limited while a run goes on."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

from ftcore.errors import OutOfMemory, TrainingError
from ftcore.run import memory
from ftcore.testing.models import tiny_model

pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux'"),
    pytest.mark.xdist_group("memory"),  # else each worker would run out of memory anew
]

SCRIPT = """
import resource, sys
from pathlib import Path

import ftcore.run.out_of_memory, ftcore_sft.trainer
from ftcore.run import memory
from ftcore.cli.main import main
from ftcore.run.observer import RunObserver

ROOM, START, STEP = 96 * 2**20, ftcore_sft.trainer.SupervisedTrainer.attach, RunObserver.step
HARD = resource.getrlimit(resource.RLIMIT_AS)[1]

def limit():
    size = memory._fields("/proc/self/status")["VmSize"]
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, HARD))

def attach(self, *arguments):
    START(self, *arguments)
    limit()

def step(self, number, tokens):
    STEP(self, number, tokens)
    if number == 2:
        limit()

def command(*arguments):
    try:
        main(list(arguments))
    except SystemExit as end:
        print(f"{arguments[-1]} ended with {end.code}", flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, HARD))

ftcore_sft.trainer.SupervisedTrainer.attach = attach
command("run", sys.argv[1], "--set", "run.name=dry")
ftcore_sft.trainer.SupervisedTrainer.attach = START
RunObserver.step = step
ftcore.run.out_of_memory._SECONDS = 0.0  # one change is enough the second time
command("run", sys.argv[1], "--set", "run.dry_step=false", "--set", "run.name=late")
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with two runs that ran out of memory, in the dry step and in the third step, and what they said."""
    folder = tmp_path_factory.mktemp("memory")
    tiny_model(folder / "model")
    rows = [{"question": f"How many apples are {number}?", "answer": "Many. " * 1000} for number in range(128)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = {
        "fine_tuner": {
            "base_model_id": str(folder / "model"),
            "training_data_id": "train.jsonl",
            "load_in_4bit": False,
            "max_sequence_length": 512,
            "epochs": 1,
            "device_train_batch_size": 32,
            "grad_accumulation": 1,
            "optimizer": "adamw_torch",
            "use_gradient_checkpointing": False,
            "use_flash_attention": False,  # attention weights of 128 MiB a layer, and few operations to trace
            "log_steps": 1,
            "save_steps": 1000,
        },
        "audit": {"max_truncated": 1.0},
        "run": {"output_dir": str(folder / "runs")},
    }
    (folder / "config.toml").write_text(tomli_w.dumps(tables))
    (folder / "limited.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "limited.py"), str(folder / "config.toml")]
    return folder, subprocess.run(command, capture_output=True, text=True, timeout=300)


Ended = tuple[Path, subprocess.CompletedProcess[str]]


def error_of(ended: Ended, run: str) -> str:
    """The one line that a run ended with."""
    (error,) = (line for line in ended[1].stderr.splitlines() if line.startswith("error: ") and run in line)
    return error


def test_both_end_with_one_line_and_the_exit_code_of_training(ended: Ended) -> None:
    folder, process = ended
    assert process.returncode == 0, process.stderr
    assert "run.name=dry ended with 6" in process.stdout
    assert "run.name=late ended with 6" in process.stdout
    assert "Traceback" not in process.stdout + process.stderr
    assert len([line for line in process.stderr.splitlines() if line.startswith("error: ")]) == 2
    for run in ("dry", "late"):
        assert json.loads((folder / "runs" / run / "manifest.json").read_text())["status"] == "failed"
        assert "Traceback" in (folder / "runs" / run / "run.log").read_text()  # for whoever wants to know


def test_what_does_not_fit_is_known_before_the_first_step(ended: Ended) -> None:
    dry = error_of(ended, "(dry step)")
    assert dry.startswith("error: the longest training batch does not fit in memory (dry step): ")
    assert "DefaultCPUAllocator: can't allocate memory: you tried to allocate " in dry
    assert "; no checkpoint was written yet. Set device_train_batch_size = " in dry
    assert "loss" not in (ended[0] / "runs" / "dry" / "metrics.jsonl").read_text()


def test_the_advice_has_the_documented_order_and_numbers(ended: Ended) -> None:
    found = json.loads((ended[0] / "runs" / "dry" / "manifest.json").read_text())["out_of_memory"]
    changes = [item["change"].partition(" = ")[0] for item in found["advice"]]
    assert changes[:4] == [
        "device_train_batch_size",
        "max_sequence_length",
        "use_gradient_checkpointing",
        "load_in_4bit",
    ]
    assert "grad_accumulation = " in found["advice"][0]["change"]
    first = found["advice"][0]
    assert first["fits"]
    assert first["peak"] < found["estimated"]
    assert f"           1. {first['change']}" in ended[1].stdout


def test_out_of_memory_later_keeps_what_was_trained(ended: Ended) -> None:
    late = error_of(ended, "memory ran out in training")
    checkpoint = ended[0] / "runs" / "late" / "checkpoints" / "checkpoint-2"
    assert f"; what was trained up to step 2 is in {checkpoint}" in late
    assert (checkpoint / "adapter_model.safetensors").exists()
    assert (checkpoint / "optimizer.pt").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_the_words_of_want_of_memory(error: Exception) -> None:
    wrapped = TrainingError("training could not go on")
    wrapped.__cause__ = error
    assert memory.scarcity(wrapped) is error


def test_other_errors_are_none_of_it() -> None:
    for error in (ValueError("out of memory"), RuntimeError("expected a tensor"), KeyError("memory"), None):
        assert not memory.ran_out(error)
    assert issubclass(OutOfMemory, TrainingError)


def test_the_peak_of_a_piece_of_work_is_measured() -> None:
    with memory.measured() as before:
        pass
    with memory.measured() as peak, mmap.mmap(-1, 200 * 2**20) as held:  # not memory that was freed before
        held[::4096] = bytes(len(held[::4096]))
    assert before.growth < 50 * 2**20
    assert 190 * 2**20 < peak.growth < 260 * 2**20
    # The kernel's own record does not rise a second time.
    with memory.measured() as again, mmap.mmap(-1, 100 * 2**20) as held:
        held[::4096] = bytes(len(held[::4096]))
        time.sleep(0.5)  # a thread looks every few milliseconds, where it gets a turn
    assert 90 * 2**20 < again.growth < 160 * 2**20
    assert 0 < memory.resident() < memory.within_reach() <= memory.total()
