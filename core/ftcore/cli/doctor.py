"""`ftcore doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

_GIB = 2**30


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def doctor(as_json: bool) -> None:
    """Say what this machine has to train with: hardware, libraries, plugins, and the loader that would be chosen."""
    from ftcore.doctor import examine

    facts = examine()
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
        return
    lines = list(_lines(facts))
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        click.echo(f"{label.ljust(width)}  {text}".rstrip())


def _lines(facts: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, section in facts.items():
        if "error" in section:
            yield name, f"cannot be told: {section['error']}"
        else:
            yield from _SECTIONS.get(name, _plain)(section)


def _plain(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        yield name, str(value)


def _processor(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "processor", f"{section['model']}, {section['usable_cores']} of {section['cores']} cores usable"
    yield "", f"features: {', '.join(section['features']) or 'none of note'}"
    native = "multiplied in hardware" if section["bfloat16"] else "emulated, so float32 is used"
    yield "bfloat16", native
    free = f", {_gib(section['available_bytes'])} of it available" if section["available_bytes"] else ""
    yield "memory", f"{_gib(section['memory_bytes'])}{free}"


def _disk(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    note = "" if section["writable"] else ", and it is not writable"
    yield "disk", f"{_gib(section['free_bytes'])} of {_gib(section['total_bytes'])} free in {section['folder']}{note}"


def _torch(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "missing" in section:
        yield "torch", f"not installed: {section['missing']}"
        return
    build = f"built for CUDA {section['built_for_cuda']}" if section["built_for_cuda"] else "built for CPUs only"
    yield "torch", f"{section['version']}, {build}, {section['threads']} threads"
    for gpu in section["gpus"]:
        size = f"{_gib(gpu['memory_bytes'])}, {_gib(gpu['free_bytes'])} of it free"
        yield "GPU", f"{gpu['name']}, {size}, compute capability {gpu['capability']}"
    if not section["gpus"]:
        yield "GPU", "none that torch can use"


def _driver(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "driver", section["nvidia"]


def _libraries(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    label = "libraries"
    width = max(len(name) for name in section)
    for name, found in section.items():
        yield label, f"{name.ljust(width)}  {found['version'] or 'not installed: ' + found['install']}"
        label = ""


def _plugins(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "plugins", ", ".join(section["working"]) or "none"
    for name, reason in section["not_working"].items():
        yield "", f"{name} is {reason}"


def _loader(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "loader", f"auto chooses {section['auto'] or 'none'}: {section['why']}"
    for reason in [*section.get("stood_back", ()), *section.get("problems", ())]:
        yield "", reason


def _environment(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    label = "environment"
    for name, value in section.items():
        yield label, f"{name}={value}"
        label = ""


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


_SECTIONS = {
    "processor": _processor,
    "disk": _disk,
    "torch": _torch,
    "driver": _driver,
    "libraries": _libraries,
    "plugins": _plugins,
    "loader": _loader,
    "environment": _environment,
}
