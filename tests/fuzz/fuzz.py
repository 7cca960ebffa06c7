"""Fuzzes the readers of what users write: `python tests/fuzz/fuzz.py [--inputs 100000] [--only TARGET]`.

Each target runs in a process of its own, guided by coverage where atheris is installed (`pip install 'ftcore[fuzz]'`), else
on changed random bytes. An input that brings anything but a documented error, or takes ten seconds, is kept in
`tests/fuzz/found/` and ends that target; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import NoReturn

HERE = Path(__file__).parent
FOUND = HERE / "found"
_SHARE = {"config": 0.3, "override": 0.25, "reader": 0.15, "formatter": 0.2, "locator": 0.1}
_SECONDS = 10


def main() -> int:
    arguments = _arguments()
    if arguments.child:
        return _guided(arguments) if arguments.engine == "atheris" else _random(arguments)
    engine = arguments.engine or ("atheris" if importlib.util.find_spec("atheris") else "random")
    FOUND.mkdir(exist_ok=True)
    failed = []
    for target, share in _SHARE.items():
        if arguments.only not in (None, target):
            continue
        inputs = round(arguments.inputs * (1 if arguments.only else share))
        command = [sys.executable, str(HERE / "fuzz.py"), "--child", "--engine", engine, "--only", target]
        started = time.monotonic()
        done = subprocess.run([*command, "--inputs", str(inputs), "--seed", str(arguments.seed)], check=False)
        seconds = time.monotonic() - started
        print(
            f"{target:<10} {engine:<8} {inputs:>7,} inputs  {seconds:6.0f} s  {'found something' if done.returncode else 'sound'}"
        )
        failed += [target] if done.returncode else []
    return 1 if failed else 0


def _guided(arguments: argparse.Namespace) -> NoReturn:
    import atheris

    with atheris.instrument_imports(include=["ftcore", "ftcore_data", "ftcore_formats"]):
        from targets import TARGETS

        one = TARGETS[arguments.only]
        one(b"")  # what it imports when it is called is instrumented too
    seeds = HERE / "found" / f"corpus-{arguments.only}"
    seeds.mkdir(exist_ok=True)
    options = [f"-runs={arguments.inputs}", f"-seed={arguments.seed + 1}", "-max_len=512", f"-timeout={_SECONDS}"]
    options += [
        "-verbosity=0",
        "-print_final_stats=0",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={FOUND}/{arguments.only}-",
    ]
    atheris.Setup([sys.argv[0], *options, str(seeds)], lambda data: one(data) and None)
    atheris.Fuzz()  # ends the process
    raise AssertionError


def _random(arguments: argparse.Namespace) -> int:
    from targets import TARGETS, random_inputs

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer in {_SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_long)
    outcomes: Counter[str] = Counter()
    inputs = random_inputs(arguments.seed)
    for _ in range(arguments.inputs):
        data = next(inputs)
        signal.alarm(_SECONDS)
        try:
            outcomes[TARGETS[arguments.only](data)] += 1
        except BaseException:
            (FOUND / f"{arguments.only}-{abs(hash(data)):x}").write_bytes(data)
            raise
        finally:
            signal.alarm(0)
    print(f"{arguments.only}: {dict(outcomes.most_common(6))}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets, or for the one of --only")
    parser.add_argument("--only", choices=list(_SHARE))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("atheris", "random"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
