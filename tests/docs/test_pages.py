"""What the pages say is there: files, commands and their options, keys, hooks. What is to be run is run beside here."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import tomli
from doc_pages import HOW_TO, LINK, PAGES, ROOT, commands, inline, name, prose, snippets

from ftcore.cli.main import cli
from ftcore.config import CORE_SECTIONS, load
from ftcore.plugins import Plugins

TRUSTED = {
    "make",
    "pip",
    "pytest",
    "python",
    "cd",
    "git",
    "export",
    "mkdir",
    "ls",
    "twine",
    "mlflow",
    "sbatch",
    "npm",
    "npx",
}
"""Commands of others that a page may show."""
OF_EXAMPLES = {"acme-demo"}
"""Commands that the example plugins add."""
PYTHON_RUN_BY = {
    "docs/how-to/": "tests/docs/test_how_to.py",
    "docs/plugin-tutorial.md": "tests/docs/test_tutorial.py",
    "docs/organisations.md": "tests/docs/test_sessions.py",
    "docs/plugin-settings.md": "tests/docs/test_sessions.py",
    "docs/testing-plugins.md": "tests/test_testing_page.py",
}
RUN_ELSEWHERE = {page.name for page in HOW_TO} | {"plugin-tutorial.md", "plugin-settings.md"}
"""Pages whose files are put to use, plugins and all, by the tests beside this one."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(prose(page)):
        if "://" not in match["target"] and not match["target"].startswith("mailto:"):
            assert (page.parent / match["target"]).exists(), match["target"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_snippet_can_be_read(page: Path) -> None:
    for snippet in snippets(page):
        match snippet.kind:
            case "toml":
                tomli.loads(snippet.body)
            case "json":
                lines = snippet.body.splitlines() if snippet.title.endswith(".jsonl") else [snippet.body]
                assert [json.loads(line) for line in lines]
            case "python":
                ast.parse(snippet.body)
            case "sh" | "shell" | "py" | "jsonl":
                pytest.fail(f"{snippet.kind}: the tests know console, bash, python, json and toml")


def test_python_on_the_pages_is_run() -> None:
    """A page with Python names the test that runs it."""
    for page in PAGES:
        if any(snippet.kind == "python" for snippet in snippets(page)):
            test = next((test for start, test in PYTHON_RUN_BY.items() if name(page).startswith(start)), None)
            assert test is not None, f"which test runs the Python of {name(page)}?"
            assert (ROOT / test).is_file()


def configurations() -> list[Any]:
    return [
        pytest.param(snippet.body, id=f"{name(page)}-{number}")
        for page in PAGES
        if page.name not in RUN_ELSEWHERE and ROOT / "examples" not in page.parents
        for number, snippet in enumerate(snippets(page))
        if snippet.kind == "toml" and "base_model_id" in snippet.body and "training_data_id" in snippet.body
    ]


@pytest.mark.parametrize("text", configurations())
def test_configurations_are_valid(text: str, tmp_path: Path, plugins: Plugins) -> None:
    tables = tomli.loads(text)
    unknown = {section for section in tables if section not in CORE_SECTIONS | plugins.sections}
    assert unknown <= {"extends"}
    (tmp_path / "config.toml").write_text(text)
    assert load(tmp_path / "config.toml", plugins).fine_tuner.training_data_id


# Commands


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_consoles_can_be_typed(page: Path, tmp_path: Path, plugins: Plugins) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page):
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[0] == "ftcore":
            typed = understood(words[1:])
            if typed is not None and typed.params.get("overrides"):
                the_overrides_are_valid(typed, tmp_path, plugins)
        elif words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        else:
            assert Path(words[0]).name in TRUSTED or words[0].startswith(".venv/bin/"), words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_the_text_are_there(page: Path) -> None:
    for code in inline(page):
        words = code.split()
        if words[0] == "ftcore" and len(words) > 1 and re.fullmatch(r"(--)?[a-z-]+", words[1]):
            known_words(words[1:])


def understood(words: list[str]) -> click.Context | None:
    """The command line as click takes it; None where a plugin of an example has to take it.

    Raises:
        click.ClickException: it cannot be typed so.
    """
    if words[0] in OF_EXAMPLES or words[0].startswith("-"):
        return None
    group: click.Group = cli
    context = click.Context(cli, info_name="ftcore")
    while True:
        command = group.get_command(context, words[0])
        assert command is not None, f"there is no command {words[0]} in {group.name}"
        if isinstance(command, click.Group) and len(words) > 1 and not words[1].startswith("-"):
            group, words = command, words[1:]
            continue
        return command.make_context(words[0], words[1:], parent=context)


def known_words(words: list[str]) -> None:
    """A command that a sentence names, perhaps without its arguments: the command and the options are there."""
    if words[0] in OF_EXAMPLES:
        return
    command: click.Command | None = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        inner = command.get_command(context, words[0])
        assert inner is not None, f"there is no command {words[0]}"
        command, words = inner, words[1:]
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0].rstrip("….,") in known, f"{command.name} has no option {word}"


def the_overrides_are_valid(typed: click.Context, folder: Path, plugins: Plugins) -> None:
    config = folder / "config.toml"
    config.write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d"\n')
    assert load(config, plugins, typed.params["overrides"])


# Keys


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_keys_in_the_text_are_there(page: Path, plugins: Plugins) -> None:
    known = CORE_SECTIONS | plugins.sections
    for code in inline(page):
        found = re.fullmatch(r"\[(?P<section>[a-z_]+)\] (?P<key>[a-z_0-9]+)( = .*)?", code)
        if found and found["section"] in known:
            assert found["key"] in known[found["section"]].model_fields, code


def test_what_helps_can_be_written_so(tmp_path: Path, plugins: Plugins) -> None:
    """The keys and values of the page on troubleshooting, each alone in a configuration."""
    page = ROOT / "docs" / "troubleshooting.md"
    tried = []
    for code in inline(page):
        found = re.fullmatch(r"(?:\[(?P<section>[a-z]+)\] )?(?P<key>[a-z_0-9]+) = (?P<value>.+)", code)
        if found:
            section = found["section"] or "fine_tuner"
            required = '[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d"\n'
            text = (
                required
                + (f"[{section}]\n" if section != "fine_tuner" else "")
                + f"{found['key']} = {found['value']}\n"
            )
            (tmp_path / "config.toml").write_text(text)
            load(tmp_path / "config.toml", plugins)
            tried.append(code)
    assert len(tried) > 15


def test_every_row_of_troubleshooting_has_a_command() -> None:
    """A symptom without a command that shows it is a guess."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ") for line in text.splitlines() if line.startswith("| ") and not line.startswith("| you see")
    ]
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 3, row
        assert row[1].startswith("`ftcore "), row


def test_messages_on_troubleshooting_are_those_of_ftcore() -> None:
    """What a symptom quotes is in the code, in one piece or at a place where a line is broken."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [found for line in text.splitlines() for found in re.findall(r'"([^"]+)"', line.partition(" | ")[0])]
    code = "".join(
        path.read_text(encoding="utf-8") for part in ("core", "plugins") for path in (ROOT / part).rglob("*.py")
    )
    assert len(quoted) > 20
    assert [message for message in quoted if message not in code] == []


def test_keys_of_the_config_reference_that_are_bare() -> None:
    """Keys that troubleshooting names alone are keys of `[fine_tuner]`, or are explained where they stand."""
    known = set(CORE_SECTIONS["fine_tuner"].model_fields)
    for code in inline(ROOT / "docs" / "troubleshooting.md"):
        if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", code):
            assert code in known | {"eval_loss"}, code
