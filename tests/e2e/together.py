"""Runs of several processes that share the time that imports take: each process is forked from one that has them.

    python tests/e2e/together.py FOLDER

reads a line of JSON for each request and answers with one: `{"run": [arguments], "log": file}` starts `ftcore run` in
FOLDER and answers with the number of its process; `{"wait": number}` answers with its exit status. Everything is the
command's own code, but that the processes of a job are forked and not executed. They note their numbers in
`rank-<rank>.pid`, and the rows that they prepare in `prepared.txt`. Files in FOLDER make things happen to them: `slow` a
pause behind each step, `broken` an error in the second one's preparation, and `limited` that no file can be larger than the
number of bytes in it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Forked:
    """As much of `subprocess.Popen` as is needed."""

    def __init__(self, command: Sequence[str], env: dict[str, str], pass_fds: Sequence[int], **options: Any) -> None:
        self._status: int | None = None
        self._pid = os.fork()
        if not self._pid:
            _become(command[command.index("run") :], env, pass_fds)

    def poll(self) -> int | None:
        if self._status is None:
            done, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if done else None
        return self._status

    def wait(self) -> None:
        while self.poll() is None:
            time.sleep(0.01)

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        self.send(signal.SIGKILL)


def _become(arguments: Sequence[str], env: dict[str, str], keep: Sequence[int]) -> None:
    """What `exec` does to a process, and then the command."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for opened in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if opened > 2 and opened not in keep:
            try:
                os.close(opened)
            except OSError:
                continue  # the list's own
    os.environ.clear()
    os.environ.update(env)
    Path(f"rank-{env['RANK']}.pid").write_text(str(os.getpid()))
    if Path("limited").exists():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(Path("limited").read_text()), resource.RLIM_INFINITY))
    _run(arguments)


def _run(arguments: Sequence[str]) -> None:
    from ftcore.cli.main import main

    code = 1
    try:
        main(list(arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _start(arguments: Sequence[str], log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(number, target)
    _run(["run", "config.toml", *arguments])
    raise AssertionError


def _prepare_processes() -> None:
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401
    import trl  # noqa: F401

    from ftcore import processes
    from ftcore.errors import DataError
    from ftcore_sft import cache, hf_trainer

    processes.subprocess.Popen = Forked  # type: ignore[attr-defined, misc, assignment]
    processes._GRACE = 4.0
    prepare, ends = cache.prepare, hf_trainer.AgreedStop.__call__

    def noted(rows: Any, *args: Any, **kwargs: Any) -> Any:
        with Path("prepared.txt").open("a") as file:
            file.write(f"{len(rows)}\n")
        if Path("broken").exists() and processes.rank() == 1:
            raise DataError("these rows are broken", fix="Mend them")
        return prepare(rows, *args, **kwargs)

    def slowly(self: Any) -> bool:
        if Path("slow").exists():
            time.sleep(0.15)
        return ends(self)

    cache.prepare, hf_trainer.AgreedStop.__call__ = noted, slowly  # type: ignore[assignment, method-assign]


def main() -> None:
    """The script."""
    os.chdir(sys.argv[1])
    _prepare_processes()
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            answer = _start(request["run"], request["log"])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(answer, flush=True)


if __name__ == "__main__":
    main()
