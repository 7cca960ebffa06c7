"""Writes `configuration.md` and `hooks.md` from the docstrings in the code, and `life.md` with its drawing; in
`testing-plugins.md`, the table of rules.

python docs/generate.py           write them
python docs/generate.py --check   exit with 1 where one of them is not current
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from ftcore import contracts
from ftcore.config import CORE_SECTIONS
from ftcore.errors import EXIT_CODES
from ftcore.plugins import discover
from ftcore.plugins.discovery import SPECIFICATIONS, STAGE_OF_HOOK
from ftcore.run.changes import LEARNING_STAGES, changeable
from ftcore.settings.base import Section
from ftcore.settings.fine_tuner import CONCERNS
from ftcore.testing.conformance.check import all_rules

DOCS = Path(__file__).parent


def _beside(name: str) -> Any:
    """A module in this folder, which is no package and on no path."""
    specification = importlib.util.spec_from_file_location(f"ftcore_docs_{name}", DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


life, life_drawing, values = _beside("life"), _beside("life_drawing"), _beside("values")

# Configuration


def configuration() -> str:
    """The text of `configuration.md`."""
    parts = [_CONFIGURATION_HEAD, "## `[fine_tuner]`", _doc(CORE_SECTIONS["fine_tuner"])]
    titles = ("Model", "LoRA", "Data", "Training", "Logging", "Saving")
    concerns: tuple[type[Section], ...] = CONCERNS
    for title, concern in zip(titles, concerns, strict=True):
        parts += [f"### {title}", *_keys(concern, "fine_tuner", concern.changeable())]
    for name, model in CORE_SECTIONS.items():
        if name != "fine_tuner":
            parts += [f"## `[{name}]`", _doc(model), *_keys(model, name, model.changeable())]
    parts.append(_PLUGIN_SECTIONS_HEAD)
    plugins = discover(disabled=())
    for name, model in plugins.sections.items():
        record = plugins.get(name)
        if record is not None and record.distribution == "ftcore":
            served = ", ".join(f"`{stage}`" for stage in record.stages) or "no stage"
            free = changeable(name, model, bool(set(record.stages) & set(LEARNING_STAGES)))
            parts += [f"### `[{name}]`", f"{_doc(model)} The plugin serves {served}.", *_keys(model, name, free)]
    parts += [_EXIT_CODES_HEAD, "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())]
    return "\n\n".join(parts).replace("|---|---|\n\n", "|---|---|\n") + "\n"


def _keys(model: type[Section], section: str, free: frozenset[str]) -> Iterator[str]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    for key, rule in schema["properties"].items():
        default = "required" if key in required else f"default `{values.toml(rule.get('default'))}`"
        takes = values.takes(rule, schema.get("$defs", {}))
        change = " · may change on resume" if key in free else ""
        heading = f'<a id="{section}-{key}"></a>**`{key}`** · {takes} · {default}{change}'
        yield f"{heading}  \n{' '.join(rule['description'].split())}"


def _doc(model: type) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


_CONFIGURATION_HEAD = """<!-- Written by docs/generate.py from the settings' docstrings; change those. -->

# Configuration

A run is described by one TOML file. `ftcore check config.toml` looks for every mistake in it, in a moment and without
loading anything heavy; `ftcore schema` prints its JSON Schema for editors.

- Required are `base_model_id` and `training_data_id`, in `[fine_tuner]`. Every other key has the default given here.
- Types are strict: `epochs = "30"` is an error. Unknown keys and sections are errors too, with a suggestion, and all
  problems of a file are reported together.
- `"null"` stands for "none" where a key takes it, and means the same as leaving the key out.
- `${NAME}` in a text is replaced by the environment variable, `${NAME:-default}` by the default where the variable is not
  set or empty. A variable that is not set is an error. The result takes the type of its key: `rank = "${RANK}"` is a
  number. A `${` that is meant as it stands is written `$${`.
- `extends = "base.toml"`, above the first section, builds a file on another one, or on a list of them; `"plugin:name"` is a
  configuration that a plugin has. What a file says wins over what it extends, later ones of a list over earlier ones;
  tables merge key by key, lists are replaced. The path is relative to the file that it stands in.
- Plugins may give values for everybody, and lock them: see [defaults for an organisation](organisations.md).
- `ftcore check config.toml --origins` shows every value in force and where it comes from, `--json` for programs.
- `--set section.key=value` on the command line replaces a value of the file, as often as you like; the last one wins.
  Values are read like variables: `--set fine_tuner.rank=8`, `--set 'fine_tuner.report_to=["mlflow", "wandb"]'`,
  `--set run.name=0.1` (a text, as the key is one). TOML's quotes may be used where blanks or line ends matter:
  `--set 'fine_tuner.answer_part="<|assistant|>\\n"'`.
- Secrets come from the environment only (`HF_TOKEN`, `WANDB_API_KEY`, `MLFLOW_TRACKING_PASSWORD`, …). The values of such
  variables, and passwords in URLs, are masked in everything that ftcore shows or writes.
- A run that goes on (`ftcore run --resume`) must have the same settings, but for the keys marked "may change on resume":
  what is learned does not depend on those. See [what happens when something fails](reliability.md).
- Relative paths of data and of chat templates are looked up from the folder where the command is started, then from the
  folder of the file in which they stand."""

_PLUGIN_SECTIONS_HEAD = """## Sections of the built-in plugins

A plugin's section has the plugin's name. One whose plugin has no part in the run gives a warning."""

_EXIT_CODES_HEAD = """## Exit codes

| code | meaning |
|---|---|"""

# Hooks

_WHENEVER = "every process that reads a configuration"
_PROCESS = dict.fromkeys(("ftcore_settings", "ftcore_base_config", "ftcore_policy"), _WHENEVER)


def hooks() -> str:
    """The text of `hooks.md`."""
    parts = [_HOOKS_HEAD]
    for name, specification in SPECIFICATIONS.items():
        parts += [
            f'<a id="{name}"></a>',
            f"## {signature(name)}",
            _facts(name, specification.ftcore_spec["firstresult"]),
        ]
        parts.append(_listed(inspect.cleandoc(specification.__doc__)))
    parts.append(_TYPES_HEAD)
    for module in _TYPES:
        parts += _types_of(importlib.import_module(f"{contracts.__name__}.{module}"))
    return "\n\n".join(parts) + "\n"


_TYPES = ("stages", "policy", "data", "formatter", "loader", "trainer", "run", "reporter", "saver", "launcher")
"""The modules of `ftcore.contracts`, in the order in which a reader meets their types."""


def _types_of(module: ModuleType) -> Iterator[str]:
    """What a module of `ftcore.contracts` defines, in its order: classes, and names with the docstring below them."""
    statements = ast.parse(inspect.getsource(module)).body
    for statement, below in pairwise([*statements, ast.Pass()]):
        match statement, below:
            case ast.ClassDef(name=name), _:
                yield f"### {name}"
                yield from _type(getattr(module, name))
            case ast.Assign(targets=[ast.Name(id=name)], value=value), ast.Expr(value=ast.Constant(value=str(doc))):
                yield f"### {name}"
                yield f"`{ast.unparse(value)}`"
                yield _flat(doc)


def signature(hook: str) -> str:
    """A hook as it is written in the code: names, types, result."""
    return _signature(SPECIFICATIONS[hook])


def _signature(function: Any) -> str:
    shape = inspect.signature(function)
    arguments: list[str] = []
    for argument in shape.parameters.values():
        if argument.name == "self":
            continue
        if argument.kind is argument.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        default = "" if argument.default is argument.empty else f" = {argument.default!r}"
        arguments.append(f"{argument.name}: {argument.annotation}{default}")
    return f"{function.__name__}({', '.join(arguments)}) -> {shape.return_annotation}"


def _facts(name: str, one_answer: bool) -> str:
    stage = f"Stage: `{STAGE_OF_HOOK[name]}`. " if name in STAGE_OF_HOOK else ""
    answers_nothing = inspect.signature(SPECIFICATIONS[name]).return_annotation == "None"
    collects = "" if one_answer or answers_nothing else "; all answers are collected"
    return f"{stage}Asked: {life.asked(name)}{collects}. Process: {_PROCESS.get(name, life.place(name))}."


def _listed(doc: str, types: Mapping[str, str] = MappingProxyType({})) -> str:
    """A docstring whose sections (`Attributes:`, `Raises:`) are lists; names of which the type is known say it."""
    found: list[str] = []
    for line in doc.splitlines():
        if re.fullmatch("Attributes:|Args:|Raises:", line):
            found += [line, ""]
        elif entry := re.fullmatch(r" {4}([\w, ]+): (.*)", line):
            typed = (f"{name}: {types[name]}" if name in types else name for name in entry[1].split(", "))
            names = ", ".join(f"`{name}`" for name in typed)
            found.append(f"- {names}: {entry[2]}")
        else:
            found.append(re.sub("^ {8}", "  ", line))
    return "\n".join(found)


def _type(kind: type) -> Iterator[str]:
    if not (kind.__doc__ or "").startswith(f"{kind.__name__}("):  # the one that dataclasses make up
        yield _listed(inspect.cleandoc(kind.__doc__ or ""), _types(kind))
    members = {name: value for name, value in vars(kind).items() if not name.startswith("_") or name == "__call__"}
    lines = []
    for name, value in members.items():
        if isinstance(value, property) and value.fget is not None:
            text = f": {_flat(value.fget.__doc__)}" if value.fget.__doc__ else ""
            lines.append(f"- `{name}: {inspect.signature(value.fget).return_annotation}`{text}")
        elif inspect.isfunction(value):
            text = f": {_flat(value.__doc__)}" if value.__doc__ else ""
            lines.append(f"- `{_signature(value)}`{text}")
    if lines:
        yield "\n".join(lines)


def _types(kind: type) -> dict[str, str]:
    """The type of each attribute, as it is written in the code."""
    found = vars(kind).get("__annotations__", {})
    return {name: getattr(written, "__forward_arg__", written) for name, written in found.items()}


def _flat(text: str) -> str:
    return " ".join(text.split())


_HOOKS_HEAD = """<!-- Written by docs/generate.py from core/ftcore/hookspecs.py and core/ftcore/contracts; change those. -->

# Hooks

A plugin is a module (or an object) named by an entry point in the group `ftcore`. The entry point's name is the plugin's
only name: it selects the plugin in the configuration, is the name of its section, the prefix of the ids it serves, its row
in `ftcore plugins`, and what `FTCORE_DISABLE` takes.

A plugin implements any of these functions, marked with `@ftcore.hookimpl`, and leaves out the arguments that it does not
need. `settings` is always the plugin's own validated section, or None where it has none. Arguments have no defaults and
are no keywords. A wrapper (`@hookimpl(wrapper=True)`) runs around every call of its hook, whoever is selected.

An error that a user can cause is raised as one of `ftcore.errors`; anything else is reported with the plugin's name,
distribution and version.

[The life of a run](life.md) shows when each of them is called."""

_TYPES_HEAD = """## Types

What the hooks take and return; all in `ftcore.contracts`, which imports nothing heavy."""

# Rules for plugins


def rules() -> str:
    """The text of `testing-plugins.md`, whose end is the table of all rules."""
    written = (DOCS / "testing-plugins.md").read_text(encoding="utf-8").partition(_RULES_HEAD)[0]
    rows = [f"| `{rule.id}` | {rule.what} |" for rule in all_rules()]
    return "\n".join(
        [f"{written}{_RULES_HEAD}", "", "| rule | what a plugin that keeps it does |", "|---|---|", *rows, ""]
    )


_RULES_HEAD = "### All rules"

PAGES = {
    "configuration.md": configuration,
    "hooks.md": hooks,
    "life.md": life.page,
    "life.svg": lambda: life_drawing.drawing(life.LIFE),
    "testing-plugins.md": rules,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which of them are not current."""
    stale = [name for name, page in PAGES.items() if not _is(DOCS / name, page())]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/{name} is not current: run `python docs/generate.py`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/{name} written")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
