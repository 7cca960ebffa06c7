"""Measures ftcore beside plain scripts on a CUDA GPU, without a network.

    python benchmarks/gpu/bench.py --out results.json            # about an hour on one large card
    python benchmarks/gpu/bench.py --out results.json --budget 540    # as much as fits in 9 minutes; call it again
    python benchmarks/gpu/bench.py --out results.json --dry      # the same code on a processor, in a minute

Cases that are in the results already are not measured again. The table goes into a file of the same name with `.md`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cases
import report

HERE = Path(__file__).parent
LIBRARIES = ("ftcore", "unsloth", "unsloth_zoo", "torch", "transformers", "trl", "peft", "bitsandbytes", "triton")
LIBRARIES += ("flash_attn", "xformers")


def main() -> int:
    options = _options()
    out, began = options.out.resolve(), time.monotonic()
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    results["machine"] = results.get("machine") or machine()
    if results["machine"]["gpu"] is None and not options.dry:
        print("no CUDA device is visible to torch; --dry runs on a processor", file=sys.stderr)
        return 2
    measured: dict[str, Any] = results.setdefault("cases", {})
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name, case in chosen(options):
            if name in measured:
                continue
            if options.budget and time.monotonic() - began > options.budget:
                print("the budget is spent; call again to go on", file=sys.stderr)
                break
            found = measure(case, folder.resolve(), Path(scratch), options.timeout)
            measured[name] = {"case": case.to_json(), **found}
            out.write_text(json.dumps(results, indent=1), encoding="utf-8")
            out.with_suffix(".md").write_text(report.render(results), encoding="utf-8")
            print(f"{name}: {report.short(found)}", flush=True)
    return 0


def chosen(options: argparse.Namespace) -> list[tuple[str, cases.Case]]:
    """The cases in the order of measurement, so that rounds are spread over the run; each with a name of its own."""
    if options.dry:
        return [(case.name, case) for case in cases.dry()]
    once = [*cases.presets(), *cases.grid(options.models)]
    wanted = [case for case in once if not options.only or options.only in case.name]
    return [(f"{case.name}#{number}", case) for number in range(1, options.rounds + 1) for case in wanted]


def measure(case: cases.Case, folder: Path, scratch: Path, timeout: float) -> dict[str, Any]:
    """What the worker measured, or how it ended."""
    given, result = scratch / "case.json", scratch / "result.json"
    given.write_text(json.dumps(case.to_json()), encoding="utf-8")
    result.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "worker.py"), str(given), str(folder), str(result)]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {timeout:.0f} s"}
    if not result.exists():
        tail = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        trouble = [line for line in tail if "Error" in line or "error" in line] or tail
        return {"error": (trouble or [f"exit status {done.returncode}"])[-1][:400]}
    measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return {**measured, "process_seconds": time.monotonic() - began}


def machine() -> dict[str, Any]:
    """The card, what it multiplies matrices at, and the versions."""
    code = (
        "import json, torch; from clock import matrix_rate; cuda = torch.cuda.is_available();"
        "print(json.dumps({'gpu': torch.cuda.get_device_name() if cuda else None,"
        "'capability': torch.cuda.get_device_capability() if cuda else None,"
        "'memory_gib': torch.cuda.get_device_properties(0).total_memory / 1024**3 if cuda else None,"
        "'cuda': torch.version.cuda, 'matrix_flops': matrix_rate()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {
        **facts,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure ftcore beside plain scripts on a CUDA GPU.")
    parser.add_argument(
        "--out", type=Path, required=True, help="the JSON file of the results; the table goes beside it"
    )
    parser.add_argument("--folder", type=Path, help="where models and rows are kept between calls")
    real = [name for name in cases.ARCHITECTURES if name != "dry"]
    parser.add_argument("--models", nargs="+", choices=real, default=real)
    parser.add_argument("--only", help="measure only cases with this in their name")
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is measured")
    parser.add_argument("--budget", type=float, help="begin no new case after so many seconds")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one case")
    parser.add_argument("--dry", action="store_true", help="a tiny model on a processor, to see that all of this runs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
