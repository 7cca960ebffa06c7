"""A project in a folder of its own: data, a configuration, and real runs in this process.

def test_a_run(ftcore_project):
    ftcore_project.data([{"question": "How many?", "answer": "Two."}])
    run = ftcore_project.run({"stages": {"formatter": "qa"}})
    assert run.manifest["status"] == "finished"
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

Tables = Mapping[str, Any]

ROWS = tuple(
    {"question": f"How many are {number} and 1?", "answer": f"There are {number + 1}."} for number in range(1, 5)
)
"""The training rows of a project that was given none."""

FILLED_IN: dict[str, dict[str, Any]] = {
    "fine_tuner": {
        "max_sequence_length": 256,
        "dtype": "float32",
        "load_in_4bit": False,
        "use_gradient_checkpointing": False,
        "rank": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "dataset_num_proc": 1,
        "epochs": 1,
        "device_train_batch_size": 2,
        "grad_accumulation": 1,
        "warmup_steps": 0,
        "optimizer": "adamw_torch",
        "log_steps": 1,
    },
    "stages": {"loader": "transformers"},
    "run": {"output_dir": "runs"},
}
"""What `Project.config` fills in besides the model and the data: a run of a few steps in about a second."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Attributes:
        exit_code: the exit status.
        stdout, stderr: what it printed.
    """

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """What it printed, standard error behind standard output."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class FinishedRun:
    """A run that is over.

    Attributes:
        path: the run directory.
        output: what the run printed.
    """

    path: Path
    output: str = field(default="", repr=False)

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`: status, versions, plugins, data, metrics, steps."""
        found: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        return found

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`: `step`, `time`, and what was logged."""
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]

    @property
    def model(self) -> Path:
        """The folder of the trained model or adapter, as the saver `local` writes it."""
        return self.path / "model"


class Project:
    """A folder with data and configurations.

    Args:
        path: the folder, which must be there; commands run in it.
        model: makes the tiny model's folder where a configuration names no model.
    """

    def __init__(self, path: Path, model: Callable[[], Path]) -> None:
        self.path = path
        self._model = model

    def __repr__(self) -> str:
        return f"Project({str(self.path)!r})"

    def data(self, rows: Iterable[Mapping[str, Any]], name: str = "train.jsonl") -> Path:
        """Write rows as JSON lines; `train.jsonl` and `validation.jsonl` are used by configurations that name no data."""
        lines = [json.dumps(dict(row), ensure_ascii=False) for row in rows]
        return self._write(name, "".join(f"{line}\n" for line in lines))

    def config(self, tables: str | Tables | None = None, name: str = "config.toml", *, fill: bool = True) -> Path:
        """Write a configuration, with what it does not say filled in: a tiny model, data, and few steps.

        Args:
            tables: the text of the file, or its tables; nothing means all that is filled in.
            name: the file's name.
            fill: False writes it as it is. A text that is no TOML, or that begins with `extends`, always is.
        """
        if isinstance(tables, str):
            parsed = _parsed(tables)
            if parsed is None or not fill:
                return self._write(name, tables)
            tables = parsed
        given = dict(tables or {})
        import tomli_w

        return self._write(name, tomli_w.dumps(self._filled_in(given) if fill and "extends" not in given else given))

    def run(self, config: Path | str | Tables | None = None, *overrides: str) -> FinishedRun:
        """Fine-tune for real, in this process and in the project's folder.

        Args:
            config: a file that is there, or what `config` takes; by default the file `config.toml`.
            overrides: `section.key=value`, as behind `--set`.

        Raises:
            FtcoreError: as `ftcore run` would end with it.
        """
        from ftcore import config as configs
        from ftcore.plugins import discover
        from ftcore.run import pipeline

        path = self._config_file(config)
        command = [sys.executable, "-m", "ftcore", "run", str(path)]
        command += [part for override in overrides for part in ("--set", override)]
        with self._here() as (out, err):
            plugins = discover()
            active = pipeline.run(configs.load(path, plugins, overrides), plugins, command)
            return FinishedRun(active.dir.absolute(), out.text + err.text)

    def ftcore(self, *arguments: str | Path) -> CommandResult:
        """`ftcore ARGUMENTS` in this process and in the project's folder, through the same `main` as the command."""
        from ftcore.cli import main as command_line

        with self._here() as (out, err):
            try:
                command_line.main([str(argument) for argument in arguments])
            except SystemExit as ended:
                code = ended.code
            finally:
                command_line.cli.commands.clear()  # what plugins have registered in it
        return CommandResult(code if isinstance(code, int) else int(code is not None), out.text, err.text)

    def runs(self) -> list[FinishedRun]:
        """The runs in `runs`, oldest first."""
        folders = [path.parent for path in self.path.glob("runs/*/manifest.json")]
        return [FinishedRun(folder) for folder in sorted(folders, key=lambda folder: folder.stat().st_ctime_ns)]

    def _config_file(self, config: Path | str | Tables | None) -> Path:
        if isinstance(config, Path):
            return self.path / config
        if config is None and (self.path / "config.toml").exists():
            return self.path / "config.toml"
        return self.config(config)

    def _filled_in(self, given: dict[str, Any]) -> dict[str, Any]:
        model = given.get("fine_tuner", {})
        if not isinstance(model, dict):
            return given
        filled = {**FILLED_IN["fine_tuner"]}
        if True in (model.get("load_in_8bit"), model.get("full_finetuning")):
            del filled["load_in_4bit"]
        if "base_model_id" not in model:
            filled["base_model_id"] = str(self._model())
        if "training_data_id" not in model:
            if not (self.path / "train.jsonl").exists():
                self.data(ROWS)
            filled["training_data_id"] = "train.jsonl"
            if (self.path / "validation.jsonl").exists():
                filled["validation_data_id"] = "validation.jsonl"
        defaults = {**FILLED_IN, "fine_tuner": filled}
        for section, values in defaults.items():
            table = given.get(section, {})
            given[section] = {**values, **table} if isinstance(table, dict) else table
        return given

    def _write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    @contextlib.contextmanager
    def _here(self) -> Iterator[tuple[_Tee, _Tee]]:
        out, err = _Tee(sys.stdout), _Tee(sys.stderr)
        with contextlib.chdir(self.path), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield out, err


class _Tee(io.TextIOBase):
    """Keeps what is printed, and prints it: pytest shows it where the test fails."""

    def __init__(self, shown: TextIO) -> None:
        self._shown = shown
        self._kept: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._kept)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._shown.write(text)  # first: click finds out by an error whether a stream wants bytes
        self._kept.append(text)
        return len(text)

    def flush(self) -> None:
        self._shown.flush()


def _parsed(text: str) -> dict[str, Any] | None:
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError:
        return None
