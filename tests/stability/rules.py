"""Which changes of what is promised are fine, and which break somebody's plugin or configuration."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

IMPLEMENTED_BY_PLUGINS = ("Formatter", "Loader", "Trainer", "Reporter")
"""The protocols of `ftcore.contracts` whose methods core calls on plugins' objects, each of which must have all."""

HOW = "python tests/stability/snapshot.py --write"

_OLD_RULE = (
    "Keep it, mark it as deprecated (docs/stability.md: goes_away, renamed_names, Section.renamed_keys) and take it away "
    "in a later major version; before 1.0 in a later minor one."
)


@dataclass(frozen=True)
class Difference:
    """What has changed.

    Attributes:
        fine: additions; the snapshot is rewritten on purpose.
        breaking: what somebody may rely on is gone or different.
    """

    fine: tuple[str, ...] = ()
    breaking: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fine or self.breaking)

    def lines(self) -> Iterator[str]:
        """What has changed, what follows from it, and what to type."""
        if self.breaking:
            yield "These changes break plugins or configurations that worked:"
            yield from (f"  - {line}" for line in self.breaking)
            yield _OLD_RULE
        if self.fine:
            yield "These additions are fine, and are promised from now on:"
            yield from (f"  + {line}" for line in self.fine)
        if self:
            what = (
                "If that is what you want, with its deprecation" if self.breaking else "If they are meant to be public"
            )
            yield f"{what} and a line in CHANGELOG.md: {HOW}"


def difference(was: dict[str, str], now: dict[str, str]) -> Difference:
    """Compare two snapshots."""
    fine: list[str] = []
    breaking: list[str] = []
    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            breaking.append(f"{name} is gone (it was: {was[name]})")
        elif name not in was:
            reason = _breaking_addition(name, now[name], was)
            (breaking if reason else fine).append(f"{name}: {now[name]}{reason}")
        elif was[name] != now[name]:
            grown = _has_only_grown(name, was[name], now[name])
            (fine if grown else breaking).append(f"{name}: {was[name]} is {now[name]} now")
    return Difference(tuple(fine), tuple(breaking))


def _breaking_addition(name: str, value: str, was: dict[str, str]) -> str:
    """Why something new breaks what is there; empty where it does not."""
    owner, _, member = name.rpartition(".")
    if owner in {f"ftcore.contracts.{kind}" for kind in IMPLEMENTED_BY_PLUGINS}:
        return " (plugins' objects do not have it: make a protocol of its own, as Rehearsing and Batching are)"
    section = re.fullmatch(r"(section \[.*\]) .+", name)
    if section and section[1] in was and value == "required":
        return " (configurations do not have it: give it a default)"
    if was.get(owner, "").startswith("@dataclass") and not value.startswith(("(", "property", "classmethod")):
        return (
            ""
            if " = " in value
            else f" (whoever makes a {owner.rpartition('.')[2]} does not give it: {member} needs a default)"
        )
    if re.fullmatch(r"command ftcore .* [A-Z_]+", name) and value == "argument" and name.rpartition(" ")[0] in was:
        return " (command lines do not have it: make it an option)"
    return ""


def _has_only_grown(name: str, was: str, now: str) -> bool:
    """Whether everything that could be done before can still be done in the same way."""
    if name.startswith("exit code"):
        return False
    if name.startswith("section"):
        return now == "has a default"
    if name.startswith("command"):
        return now == "optional argument"
    old, new = _signature(was), _signature(now)
    if old is None or new is None or (old.kind, old.returns) != (new.kind, new.returns):
        return False
    if name.startswith("hook"):  # called by name, and each plugin takes what it needs
        return _is_subsequence(old.parameters, new.parameters)
    if new.parameters[: len(old.parameters)] != old.parameters or not set(old.by_name) <= set(new.by_name):
        return False
    added = new.parameters[len(old.parameters) :]
    further = [parameter for parameter in new.by_name if parameter not in old.by_name]
    implemented = any(name.startswith(f"ftcore.contracts.{kind}.") for kind in IMPLEMENTED_BY_PLUGINS)
    # Core calls these, and leaves out what an older object does not take (ftcore.plugins.older).
    return (implemented and not further) or all(default for _, _, default in (*added, *further))


Parameter = tuple[str, str, str]
"""Name, annotation, and default: empty where there is none."""


@dataclass(frozen=True)
class _Signature:
    kind: str
    parameters: list[Parameter]
    by_name: list[Parameter]
    returns: str


def _signature(text: str) -> _Signature | None:
    """A line of the snapshot as a function's signature; None where it is something else."""
    kind, paren, rest = text.partition("(")
    if not paren or kind not in ("", "property ", "classmethod ", "first result ", "all results "):
        return None
    (function,) = ast.parse(f"def f({rest}: ...").body
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [""] * (len(positional) - len(arguments.defaults)) + [
        f"= {ast.unparse(it)}" for it in arguments.defaults
    ]
    by_name = [f"= {ast.unparse(default)}" if default is not None else "" for default in arguments.kw_defaults]
    return _Signature(
        kind,
        [_parameter(*pair) for pair in zip(positional, defaults, strict=True)],
        [_parameter(*pair) for pair in zip(arguments.kwonlyargs, by_name, strict=True)],
        ast.unparse(function.returns) if function.returns is not None else "",
    )


def _parameter(argument: ast.arg, default: str) -> Parameter:
    return argument.arg, ast.unparse(argument.annotation) if argument.annotation is not None else "", default


def _is_subsequence(some: list[Parameter], of: list[Parameter]) -> bool:
    rest = iter(of)
    return all(parameter in rest for parameter in some)
