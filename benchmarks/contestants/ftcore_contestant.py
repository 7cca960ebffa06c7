"""ftcore itself: `ftcore run` for training; its stages up to the audit for data preparation.

Called with a job, the loader to use and settings of the trainer (`round_once=false`). Nothing of ftcore is replaced;
the observer, to which every trainer reports its steps, is listened to.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli
import tomli_w
from job import ALPHA, LEARNING_RATE, RANK, SEED, TARGETS, Job, read_job, write_report


def write_config(job: Job, folder: Path, loader: str, sft: dict[str, Any] | None = None) -> Path:
    """The job as a configuration."""
    config = {
        "fine_tuner": {
            "base_model_id": job.model,
            "training_data_id": job.data,
            "max_sequence_length": job.max_length,
            "dtype": "bfloat16",
            "load_in_4bit": False,
            "dataset_num_proc": job.processes,
            "rank": RANK,
            "lora_alpha": ALPHA,
            "lora_dropout": 0.0,
            "target_modules": TARGETS,
            "epochs": 1,
            "learning_rate": LEARNING_RATE,
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "device_train_batch_size": job.batch_size,
            "grad_accumulation": 1,
            "optimizer": "adamw_torch",
            "use_gradient_checkpointing": "unsloth" if job.checkpointing else False,
            "packing": job.packing,
            "seed": SEED,
            "log_steps": 1,
            "save_steps": 100_000,
        },
        "stages": {"loader": loader},
        "sft": sft or {},
        # Two runs in one folder are the first and the second: names must differ.
        "run": {"output_dir": str(folder / "runs"), "name": f"run-{time.time_ns()}"},
    }
    path = folder / "config.toml"
    path.write_text(tomli_w.dumps(config), encoding="utf-8")
    return path


def train(config_path: Path, folder: Path) -> None:
    """The command as a user calls it."""
    from ftcore.cli.main import main
    from ftcore.run import training

    begun: list[float] = []
    ends: list[float] = []
    tokens: list[int] = []
    losses: list[float] = []

    class ListenedTo(training.RunObserver):
        def begin(self, total_steps: int, from_step: int) -> None:
            begun.append(time.time())
            super().begin(total_steps, from_step)

        def step(self, step: int, count: int) -> None:
            ends.append(time.perf_counter())
            tokens.append(count)
            super().step(step, count)

        def log(self, step: int, metrics: Any) -> None:
            if "loss" in metrics:
                losses.append(metrics["loss"])
            super().log(step, metrics)

    training.RunObserver = ListenedTo  # type: ignore[misc]
    try:
        main(["run", str(config_path)])
    except SystemExit as ended:
        if ended.code:
            raise
    write_report(folder, first_step_at=begun[0], step_ends=ends, step_tokens=tokens, losses=losses)


class OwnMemory:
    """The largest memory that is this process's own, looked at 20 times a second.

    What is mapped from files counts as resident too, but the system takes it back where memory gets short.
    """

    def __init__(self) -> None:
        self._peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            kib = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
            self._peak = max(self._peak, kib / 1024)
            if self._over.wait(0.05):
                return

    def peak(self) -> float:
        """In MiB, from when it was made up to now."""
        self._over.set()
        self._thread.join()
        return self._peak


def prepare(config_path: Path, folder: Path) -> None:
    """Rows to tokens and labels, and the audit that follows; libraries are imported before the clock starts."""
    import datasets  # noqa: F401
    import multiprocess  # noqa: F401
    import transformers  # noqa: F401

    from ftcore.audit import gate as audit
    from ftcore.check import check
    from ftcore.config import load
    from ftcore.contracts import Examples
    from ftcore.plugins import discover
    from ftcore.run import runs
    from ftcore.run.stages import Stages
    from ftcore.settings.data import DataSettings

    plugins = discover()
    config = load(config_path, plugins)
    selected, _ = check(config, plugins)
    settings = config.fine_tuner
    stages = Stages(config, plugins, selected)
    started = datetime.now().astimezone()
    active = runs.create(config, plugins, selected, stages.run_name(started), started)
    tokenizer = stages.loader(active).tokenizer()
    trainer = stages.trainer(active)
    begun = time.perf_counter()
    own = OwnMemory()
    rows, _ = stages.datasets(active)
    loaded = time.perf_counter()
    examples = Examples(
        train=rows,
        validation=None,
        formatter=stages.formatter(active, rows),
        tokenizer=tokenizer,
        settings=settings.view(DataSettings),
        max_length=settings.max_sequence_length,
    )
    prepared = trainer.prepare(examples)
    seen = audit.examine(prepared, tokenizer, config).statistics.training
    ended = time.perf_counter()
    write_report(
        folder,
        peak_own_mib=own.peak(),
        load_seconds=loaded - begun,
        prepare_seconds=ended - loaded,
        rows=seen.rows,
        supervised_tokens=seen.supervised,
    )
    active.close()


def contest() -> None:
    """Read the job, and do it."""
    job, folder = read_job()
    loader, *settings = sys.argv[2:]
    config_path = write_config(job, folder, loader, tomli.loads("\n".join(settings)))
    if job.goal == "train":
        train(config_path, folder)
    else:
        prepare(config_path, folder)


if __name__ == "__main__":
    contest()
