"""How well `ftcore estimate` predicts the memory that `ftcore run` takes, on this machine's processor.

    python benchmarks/estimate.py            all cases, as a table
    python benchmarks/estimate.py 0 3        some of them

Each case trains SmolLM2-135M for two steps on rows of full length and looks at the largest resident memory of that
process; torch computes in one thread, so that the cases do not depend on the number of cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from ftcore.cli.main import main

_STEPS = 2
_WORDS = ("apple", "bread", "river", "stone", "yellow", "table", "quick", "seven", "house", "window", "green", "cloud")


@dataclass(frozen=True)
class Case:
    """A configuration to measure.

    Attributes:
        rows: device_train_batch_size.
        length: max_sequence_length; every row is cut there.
        dtype: of the weights.
        rank: of the adapter; 0 is full fine-tuning.
        checkpointing: use_gradient_checkpointing.
        bits: 4 or 8 for quantized weights.
        eager: use_flash_attention = false.
    """

    rows: int
    length: int
    dtype: str = "bfloat16"
    rank: int = 8
    checkpointing: bool = False
    bits: int = 16
    eager: bool = False

    def __str__(self) -> str:
        kind = f"LoRA r{self.rank}" if self.rank else "full"
        bits = f", {self.bits} bits" if self.bits < 16 else ""
        extra = (", checkpointing" if self.checkpointing else "") + (", eager" if self.eager else "")
        return f"{self.rows} × {self.length}, {self.dtype}, {kind}{bits}{extra}"


CASES = (
    Case(2, 128),
    Case(2, 512, checkpointing=True),
    Case(2, 128, "float32", rank=0),
    Case(8, 128, "float32", rank=64),
    Case(8, 128),
    Case(2, 512, rank=64),
    Case(2, 512, eager=True),
    Case(2, 512, "float32", rank=0, checkpointing=True),
    Case(8, 512, checkpointing=True),
    Case(2, 128, bits=4, checkpointing=True),
    Case(2, 128, bits=8, checkpointing=True),
)


@dataclass(frozen=True)
class Comparison:
    """Bytes that were predicted and measured."""

    predicted: int
    measured: int

    @property
    def error(self) -> float:
        """Relative; positive where too much was predicted."""
        return self.predicted / self.measured - 1


def compare(case: Case, folder: Path) -> Comparison:
    """Predict, run, and look."""
    config = _configuration(case, folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    ran = subprocess.run(
        [sys.executable, "-c", _METER, sys.executable, "-m", "ftcore", "run", str(config)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise RuntimeError(ran.stdout + ran.stderr)
    return Comparison(_predicted(config), int(ran.stdout.splitlines()[-1]) * 1024)


def _predicted(config: Path) -> int:
    # In this process, where it is asked of all cases with one import of torch.
    with redirect_stdout(StringIO()) as asked, suppress(SystemExit):
        main(["estimate", str(config), "--gpu", "none", "--data", "--json"])
    peak: int = json.loads(asked.getvalue())["peak_bytes"]
    return peak


# A process of its own, and a small one: a child's peak begins with the memory of whoever started it.
_METER = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def _configuration(case: Case, folder: Path) -> Path:
    answer = " ".join(_WORDS[number % len(_WORDS)] for number in range(case.length + 8))
    rows = [{"question": f"Go {number}?", "answer": answer} for number in range(_STEPS * case.rows)]
    data, config = folder / "train.jsonl", folder / "config.toml"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    bits = f"load_in_{case.bits}bit = true" if case.bits < 16 else "load_in_4bit = false"
    lines = [
        "[fine_tuner]",
        'base_model_id = "smollm2:135m-instruct"',
        f"training_data_id = {json.dumps(str(data))}",
        f'dtype = "{case.dtype}"',
        f"max_sequence_length = {case.length}",
        f"device_train_batch_size = {case.rows}",
        "grad_accumulation = 1",
        "epochs = 1",
        'optimizer = "adamw_torch"',
        f"use_gradient_checkpointing = {str(case.checkpointing).lower()}",
        f"use_flash_attention = {str(not case.eager).lower()}",
        bits,
        f"rank = {case.rank}" if case.rank else "full_finetuning = true",
        "[audit]",
        "max_truncated = 1.0",
        "[run]",
        f"output_dir = {json.dumps(str(folder / 'runs'))}",
        "[stages]",
        'loader = "transformers"',
    ]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return config


def _table(cases: Sequence[Case]) -> Iterator[str]:
    yield f"{'case':<44}{'predicted':>12}{'measured':>12}{'error':>9}"
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(case, Path(folder))
        yield f"{case!s:<44}{found.predicted / 2**20:8.0f} MiB{found.measured / 2**20:8.0f} MiB{found.error:9.1%}"


if __name__ == "__main__":
    chosen = [CASES[int(number)] for number in sys.argv[1:]] or CASES
    for line in _table(chosen):
        print(line, flush=True)
