"""What ftcore promises to plugins and to configurations, as lines that can be compared.

    python tests/stability/snapshot.py            what differs from public_api.json
    python tests/stability/snapshot.py --write    take today's as what is promised

Plugins' side is read from the sources as they stand there, so that no library's version shows in it. The keys of the
snapshot say what a thing is and what it is called, the values how it may be used.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "ftcore"
SNAPSHOT = Path(__file__).parent / "public_api.json"

MODULES = (
    "arrow", "cache", "checkpoints", "contracts", "errors", "files", "fingerprint", "processes", "secrets", "tokenizer", "turns",
)  # fmt: skip
"""The public modules beside `ftcore`, `ftcore.settings.*` and `ftcore.testing.*`."""

PRIVATE = {"settings": {"base", "contradictions"}, "testing": {"hub_answers", "hub_routes", "hub_storage", "installed"}}
"""What lies in the folder of a public package and is none of it."""

PARTS: dict[str, set[str]] = {
    "ftcore.config": {"Config"},
    "ftcore.settings.base": {"Section"},
    "ftcore.testing.conformance.report": {"Report"},
    "ftcore.testing.conformance.setup": {"PluginSetup"},
}
"""Modules of which only these names are public, under the names that import them or for type checkers."""

Api = dict[str, str]


def current() -> Api:
    """What is promised today, by name."""
    found: Api = {}
    for module, path in _public_modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.update(_of_module(module, tree, PARTS.get(module)))
    found.update(_hooks(ast.parse((CORE / "hookspecs.py").read_text(encoding="utf-8"))))
    found.update(_commands())
    found.update(_sections())
    return dict(sorted(found.items()))


def promised() -> Api:
    """What the snapshot says."""
    api: Api = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return api


def write() -> None:
    """Take today's as what is promised."""
    SNAPSHOT.write_text(json.dumps(current(), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


def _public_modules() -> Iterator[tuple[str, Path]]:
    yield "ftcore", CORE / "__init__.py"
    for name in MODULES:
        folder = CORE / name
        # What the modules of a package define is imported from the package.
        paths = sorted(folder.glob("[!_]*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        yield from ((f"ftcore.{name}", path) for path in paths)
    for package in ("settings", "testing"):
        for path in sorted((CORE / package).glob("*.py")):
            name = f"ftcore.{package}" if path.stem == "__init__" else f"ftcore.{package}.{path.stem}"
            if path.stem == "__init__" or not (path.stem.startswith("_") or path.stem in PRIVATE[package]):
                yield name, path
    for module in PARTS:
        folder = CORE.joinpath(*module.split(".")[1:])
        # A package's own names stand in the module that is called like it.
        yield module, folder / f"{folder.name}.py" if folder.is_dir() else folder.with_suffix(".py")


def _of_module(module: str, tree: ast.Module, only: set[str] | None) -> Iterator[tuple[str, str]]:
    exported = _exported(tree)
    for node in tree.body:
        for name, lines in _statement(module, node, exported):
            if only is None or name in only:
                yield from lines


def _statement(module: str, node: ast.stmt, exported: set[str] | None) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The public names that a statement of a module makes, each with its lines."""
    match node:
        case ast.ClassDef(name=name) if _is_public(name, exported):
            yield name, list(_class(f"{module}.{name}", node))
        case ast.FunctionDef(name=name) if _is_public(name, exported):
            yield name, [(f"{module}.{name}", _function(node))]
        case ast.AnnAssign(target=ast.Name(id=name)) if _is_public(name, exported):
            yield name, [(f"{module}.{name}", ast.unparse(node.annotation))]
        case ast.Assign(targets=[ast.Name(id=name)]) if _is_public(name, exported) and not name.startswith("__"):
            value = ast.unparse(node.value)
            yield name, [(f"{module}.{name}", f"= {value}" if len(value) <= 200 else "= …")]
        case ast.ImportFrom(module=source, names=names) if exported:
            for alias in names:
                if (alias.asname or alias.name) in exported:
                    yield alias.name, [(f"{module}.{alias.asname or alias.name}", f"from {source}")]


def _exported(tree: ast.Module) -> set[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return None


def _is_public(name: str, exported: set[str] | None) -> bool:
    if exported is not None:
        return name in exported
    return not name.startswith(("_", "pytest_"))  # pytest's own hooks are called by pytest


_SHOWN_ELSEWHERE = (
    "model_config",
    "may_change",
    "renamed_keys",
)  # how a section is read and resumed, which its own tests look at


def _class(name: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    decorators = "".join(f"@{ast.unparse(decorator)} " for decorator in node.decorator_list)
    yield name, f"{decorators}class({bases})"
    for item in node.body:
        match item:
            case ast.AnnAssign(target=ast.Name(id=field)) if (
                not field.startswith("_") and field not in _SHOWN_ELSEWHERE
            ):
                default = f" = {ast.unparse(item.value)}" if item.value is not None else ""
                yield f"{name}.{field}", f"{ast.unparse(item.annotation)}{default}"
            case ast.Assign(targets=[ast.Name(id=field)]) if (
                not field.startswith("_") and field not in _SHOWN_ELSEWHERE
            ):
                yield f"{name}.{field}", f"= {ast.unparse(item.value)}"
            case ast.FunctionDef(name=method) if not method.startswith("_") or method in ("__call__", "__init__"):
                kinds = {ast.unparse(decorator) for decorator in item.decorator_list}
                if not any(kind.startswith(("model_validator", "field_validator")) for kind in kinds):
                    prefix = "property " if "property" in kinds else "classmethod " if "classmethod" in kinds else ""
                    yield f"{name}.{method}", prefix + _function(item)


def _function(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({ast.unparse(node.args)}){returns}"


def _hooks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("ftcore_"):
            first = any("firstresult=True" in ast.unparse(decorator) for decorator in node.decorator_list)
            yield f"hook {node.name}", f"{'first result' if first else 'all results'} {_function(node)}"


def _commands() -> Iterator[tuple[str, str]]:
    """The commands with their arguments and options, and the exit codes."""
    import click

    from ftcore.cli.main import cli
    from ftcore.errors import EXIT_CODES

    def visit(command: click.Command, path: str, context: click.Context) -> Iterator[tuple[str, str]]:
        yield f"command {path}", "command"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                takes = "a switch" if parameter.is_flag else "takes a value"
                yield f"command {path} {min(parameter.opts, key=len, default='')}", takes
                for name in parameter.opts:
                    yield f"command {path} {name}", takes
            else:
                needed = "argument" if parameter.required else "optional argument"
                yield f"command {path} {(parameter.name or '').upper()}", needed
        if isinstance(command, click.Group):
            inside = click.Context(command, parent=context)
            for name in command.list_commands(inside):
                found = command.get_command(inside, name)
                if found is not None:
                    yield from visit(found, f"{path} {name}", inside)

    top = click.Context(cli)
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        if command is not None:
            yield from visit(command, f"ftcore {name}", top)
    for code, meaning in EXIT_CODES.items():
        yield f"exit code {code}", meaning


def _sections() -> Iterator[tuple[str, str]]:
    """Every key that a configuration may have with nothing but ftcore installed."""
    from ftcore.config import CORE_SECTIONS
    from ftcore.plugins import discover

    plugins = discover(disabled=())
    ours = {record.name for record in plugins.records if record.distribution == "ftcore"}
    for name in sorted(ours):
        yield f"plugin {name}", "built in"
    sections = CORE_SECTIONS | {name: model for name, model in plugins.sections.items() if name in ours}
    for name, model in sections.items():
        yield f"section [{name}]", "section"
        for key, field in model.model_fields.items():
            yield f"section [{name}] {key}", "required" if field.is_required() else "has a default"


def main(arguments: list[str]) -> int:
    """Compare, or write."""
    if arguments == ["--write"]:
        write()
        return 0
    from rules import difference  # beside this file

    found = difference(promised(), current())
    sys.stdout.write("".join(f"{line}\n" for line in found.lines()))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
