"""What a contestant is asked to do, and what it says when it has done it.

Each contestant is a script of its own that is called with the path of a job, and writes `report.json` beside it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK, ALPHA = 16, 32
LEARNING_RATE = 2e-4
SEED = 3407


@dataclass(frozen=True)
class Job:
    """One task.

    Attributes:
        goal: "train" from the rows to a saved adapter, or "prepare" tokens and labels and stop there.
        model: folder of the model.
        data: JSONL with `question` and `answer`.
        max_length: of a sequence, in tokens.
        batch_size: rows (packed: sequences) in a step; there is no accumulation.
        processes: that prepare data.
        question_part, answer_part: what opens a turn in the model's chat template.
    """

    goal: Literal["train", "prepare"]
    model: str
    data: str
    max_length: int = 512
    batch_size: int = 4
    packing: bool = False
    checkpointing: bool = False
    processes: int = 1
    question_part: str = "<|im_start|>user\n"
    answer_part: str = "<|im_start|>assistant\n"

    def write(self, path: Path) -> None:
        """Write it where a contestant reads it."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_job() -> tuple[Job, Path]:
    """The job that this process was called with, and its folder, where everything is to be written."""
    path = Path(sys.argv[1])
    return Job(**json.loads(path.read_text(encoding="utf-8"))), path.parent


def write_report(folder: Path, **facts: Any) -> None:
    """Hand the measurements back."""
    (folder / "report.json").write_text(json.dumps(facts), encoding="utf-8")
