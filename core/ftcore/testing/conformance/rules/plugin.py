"""Rules for every plugin: that it loads, names and types its hooks right, and is light to import."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from difflib import get_close_matches

from ftcore.plugins.discovery import SPECIFICATIONS, STAGE_OF_HOOK, implementations
from ftcore.testing.conformance import imports
from ftcore.testing.conformance.rule import rule
from ftcore.testing.conformance.subject import Subject

LONGEST_IMPORT = 0.5
"""Seconds of processor time that a plugin's import may take."""


@rule(
    "plugin-loads",
    why="a broken plugin is an error wherever a configuration names it",
    fix="mend what is named; `ftcore plugins` shows the same line",
)
def loads(subject: Subject) -> Iterator[str]:
    """It is installed, its module is imported, and its hooks are those of ftcore."""
    record = subject.found
    if record is None:
        names = ", ".join(record.name for record in subject.plugins.records)
        yield f"no plugin '{subject.name}' is installed here (there are {names})"
    elif record.state != "ok":
        yield f"{record} is {record.state}: {record.reason}"


@rule(
    "plugin-kinds",
    why="a configuration that names it for that stage ends with an error",
    fix="implement the hook, or leave the kind out",
)
def kinds(subject: Subject) -> Iterator[str]:
    """It serves the kinds that it is held against."""
    hooks = {stage: hook for hook, stage in STAGE_OF_HOOK.items()}
    for kind in subject.kinds:
        if kind not in subject.record.stages:
            yield f"it is no {kind}: it has no {hooks[kind]}"


@rule(
    "plugin-hooks",
    why="a function that is not marked, or is named like no hook, is never called, and nothing says so",
    fix="put @hookimpl above it, and name it like the hook",
)
def hooks(subject: Subject) -> Iterator[str]:
    """Every function that is named like a hook is one."""
    plugin, known = subject.plugin, implementations(subject.plugin)
    for name, _ in inspect.getmembers(plugin, inspect.isroutine):
        if name.startswith("ftcore_") and name not in known:
            close = get_close_matches(name, SPECIFICATIONS, n=1, cutoff=0.0)
            reason = "is not marked with @hookimpl" if name in SPECIFICATIONS else f"is no hook (is {close[0]} meant?)"
            yield f"the function {name} {reason}"


@rule(
    "plugin-typed",
    why="a type checker finds a wrong argument when you type it; a run finds it after an hour",
    fix="annotate every argument and the result as in ftcore.hookspecs; `settings` is your own model",
)
def typed(subject: Subject) -> Iterator[str]:
    """Its hooks' arguments and results have the types of the specification."""
    for name, function in implementations(subject.plugin).items():
        if name not in SPECIFICATIONS:
            continue  # of a newer ftcore, and marked as optional
        wanted, own = inspect.signature(SPECIFICATIONS[name]), inspect.signature(function)
        for argument in own.parameters.values():
            expected = wanted.parameters[argument.name].annotation
            if argument.annotation is argument.empty:
                yield f"{name}: {argument.name} has no type; it is {_text(expected)}"
            elif argument.name != "settings" and not _takes(argument.annotation, expected):
                yield f"{name}: {argument.name} is {_text(expected)}, and is annotated {_text(argument.annotation)}"
        wrapper = function.ftcore_impl["wrapper"] or function.ftcore_impl["hookwrapper"]
        if own.return_annotation is own.empty:
            yield f"{name}: the result has no type; it is {_text(wanted.return_annotation)}"
        elif not wrapper and (_text(own.return_annotation) == "None") is not (
            _text(wanted.return_annotation) == "None"
        ):
            results = f"{_text(wanted.return_annotation)}, and is annotated {_text(own.return_annotation)}"
            yield f"{name}: the result is {results}"


@rule(
    "plugin-imports-nothing-heavy",
    why="every plugin is imported by every `ftcore check`, also by people who do not use it",
    fix="import inside the function that needs it; for types, under `if TYPE_CHECKING`",
)
def imports_nothing_heavy(subject: Subject) -> Iterator[str]:
    """Its import takes a moment, and brings no heavy library along."""
    probed = imports.probe(subject.record)
    for module, place in probed.heavy.items():
        yield f"importing it imports {module} ({place})"
    if not probed.heavy and probed.seconds > LONGEST_IMPORT:
        yield f"importing it takes {probed.seconds:.2f} s of processor time; up to {LONGEST_IMPORT} s are fine"


@rule(
    "plugin-imports-without-extras",
    why="a plugin whose optional library is missing should say so where it is used, not be broken for all",
    fix="import it inside the function that needs it, and yield a Problem in ftcore_check where it is missing",
)
def imports_without_extras(subject: Subject) -> Iterator[str]:
    """It can be imported where the libraries of its extras, and of ftcore's, are not installed."""
    probed = imports.probe(subject.record)
    if probed.error:
        yield f"without {probed.missing or 'them'}: {probed.error}"


def _takes(annotation: object, expected: object) -> bool:
    """Whether an argument's annotation is the specification's type, or a wider one that names it."""
    text, wanted = _text(annotation), _text(expected)
    return text in ("Any", "object") or set(_parts(wanted)) <= set(_parts(text))


def _parts(text: str) -> list[str]:
    return [part.strip().rpartition(".")[2] for part in text.split("|")]


def _text(annotation: object) -> str:
    if annotation is None:
        return "None"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\bftcore\.contracts\.[a-z]+\.", "ftcore.contracts.", text)  # from where it is imported
    return text.strip("\"'").replace("typing.", "")
