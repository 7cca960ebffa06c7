"""Runs `ftcore` commands, each in a process of its own that is forked from this one, which has imported torch already.

    python forking.py    with a line of JSON for each command on standard input: cwd, arguments, variables, out, err

Prints a line with each one's exit code. ftcore and its plugins are imported by each command anew.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def run(command: dict[str, Any]) -> None:
    """Be `ftcore ARGUMENTS` in a folder; does not return."""
    code = 1
    try:
        os.chdir(command["cwd"])
        os.environ.clear()
        os.environ.update(command["variables"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        from ftcore.cli.main import main

        main(command["arguments"])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """One command after the other, until standard input ends."""
    for name in ("torch", "datasets", "transformers", "peft", "trl"):
        importlib.import_module(name)
    assert "ftcore" not in sys.modules, "ftcore is imported by each command"
    for line in sys.stdin:
        command = json.loads(line)
        process = os.fork()
        if not process:
            run(command)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
