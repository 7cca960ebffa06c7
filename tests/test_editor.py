"""Editors complete and check a configuration: the real taplo, and the language server of Even Better TOML, from npm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli

from ftcore.editor import DIRECTIVE, SCHEMA_FILE

ROOT = Path(__file__).parent.parent
PACKAGES = ("@taplo/cli@0.7.0", "@taplo/lsp@0.8.0")
FENCE = re.compile(r"^ *```toml[^\n]*\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
FAULT = re.compile(r"^error: (?P<what>.*)\n +┌─ (?P<path>.*):(?P<line>\d+):\d+$", re.MULTILINE)

pytestmark = pytest.mark.xdist_group("taplo")  # which is installed once


@dataclass(frozen=True)
class Taplo:
    """taplo and its language server, installed in a folder."""

    folder: Path

    def check(self, *files: Path) -> dict[str, list[tuple[int, str]]]:
        """What `taplo check` finds: by file name, the lines and messages."""
        command = [str(self.folder / "node_modules" / ".bin" / "taplo"), "check", "--colors", "never", *map(str, files)]
        done = subprocess.run(command, cwd=files[0].parent, capture_output=True, text=True, timeout=60)
        assert "failed to fetch schema" not in done.stderr, done.stderr
        output = done.stdout + done.stderr
        found: dict[str, list[tuple[int, str]]] = {}
        for fault in FAULT.finditer(output):
            found.setdefault(Path(fault["path"]).name, []).append((int(fault["line"]), fault["what"]))
        assert bool(found) == bool(done.returncode), output
        return found

    def ask(self, file: Path, *questions: tuple[str, int, int]) -> list[Any]:
        """What an editor would be told: "completion" or "hover" at a line and a character, from 0."""
        command = [
            "node",
            str(ROOT / "tests" / "editor" / "ask.mjs"),
            str(self.folder),
            str(file),
            json.dumps(questions),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers


@pytest.fixture(scope="module")
def taplo() -> Taplo:
    """Installed once for each environment, beside its Python packages; `make clean` takes it away with them."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("npm and node are not installed: taplo is not tried")
    folder = Path(sys.prefix) / "share" / ("-".join(PACKAGES).replace("/", "-").replace("@", ""))
    if not folder.exists():
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            command = ["npm", "install", "--prefix", f"{scratch}/new", *options, *PACKAGES]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            except subprocess.TimeoutExpired:
                pytest.skip("npm did not answer within two minutes: taplo is not tried")
            if done.returncode:
                pytest.skip(f"npm cannot install taplo, which is not tried: {done.stderr.strip()[-300:]}")
            with suppress(OSError):  # another process has installed it meanwhile
                Path(scratch, "new").rename(folder)
    return Taplo(folder)


@pytest.fixture
def installed(ftcore: Any, tmp_path: Path) -> Path:
    """A folder in which `ftcore schema --install` was typed for its config.toml."""
    config = tmp_path / "config.toml"
    config.write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n', encoding="utf-8")
    outcome = ftcore("schema", "--install", str(config))
    assert (outcome.code, outcome.err) == (0, "")
    return tmp_path


def shown() -> Iterator[tuple[str, str]]:
    """Every configuration that the project shows: the file of a page or an example, and the text."""
    for path in sorted((ROOT / "examples").rglob("*.toml")):
        if path.name != "pyproject.toml" and "build" not in path.parts:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")), start=1):
            yield f"{page.relative_to(ROOT)} {number}", match["body"]


def test_every_configuration_that_is_shown_passes(taplo: Taplo, installed: Path) -> None:
    schema = json.loads((installed / SCHEMA_FILE).read_text(encoding="utf-8"))
    sections = schema["properties"]
    files = {}
    for name, text in shown():
        values = tomli.loads(text)
        if not values.keys() & {"fine_tuner", "stages", "run", "audit", "extends"}:
            continue  # a pyproject.toml, or what a page explains about one
        for section in values.keys() - sections.keys():
            sections[section] = {"type": "object"}  # of a plugin that is not installed here
        # A part of a configuration is checked as one that is built on the rest.
        whole = {"base_model_id", "training_data_id"} <= values.get("fine_tuner", {}).keys()
        file = installed / f"{len(files)}.toml"
        file.write_text(f"{DIRECTIVE}\n" + ("" if whole or "extends" in values else 'extends = "x"\n') + text, "utf-8")
        files[file.name] = (name, whole)
    assert sum(whole for _, whole in files.values()) >= 5
    (installed / SCHEMA_FILE).write_text(json.dumps(schema), encoding="utf-8")
    found = taplo.check(*(installed / name for name in files))
    assert {files[name][0]: faults for name, faults in found.items()} == {}


BAD = {
    "unknown key": ("rnak = 8", 4, "('rnak' was unexpected)"),
    "wrong type": ('epochs = "3"', 4, '"3" is not valid under any of the schemas'),
    "text for a number": ('rank = "8"', 4, '"8" does not match'),
    "number for a text": ("optimizer = 3", 4, '3 is not of type "string"'),
    "wrong choice": ('dtype = "fp16"', 4, '"fp16" is not valid under any of the schemas'),
    "out of range": ("rank = 0", 4, "0 is less than the minimum of 1"),
    "text for yes or no": ('packing = "true"', 4, '"true" does not match'),
    "empty list": ("report_to = []", 4, "[] is not valid under any of the schemas"),
    "unknown section": ("[fine_tunr]\nrank = 8", 4, "('fine_tunr' was unexpected)"),
    "unknown key of a section": ('[mlflow]\nuri = "x"', 4, "('uri' was unexpected)"),
    "number for a name": ("[run]\nname = 3", 5, '3 is not of type "string"'),
}


def test_bad_configurations_fail_at_their_line(taplo: Taplo, installed: Path) -> None:
    head = f'{DIRECTIVE}\n[fine_tuner]\ntraining_data_id = "d.jsonl"\n'
    files = {}
    for number, (what, (line, _, _)) in enumerate(BAD.items()):
        file = installed / f"{number}.toml"
        file.write_text(f'{head}{line}\nbase_model_id = "m"\n' if "[" not in line[:1] else f"{head}{line}\n", "utf-8")
        files[what] = file
    missing = installed / "missing.toml"
    missing.write_text(head, encoding="utf-8")
    found = taplo.check(*files.values(), missing)
    for what, (_, line, message) in BAD.items():
        faults = found.get(files[what].name, [])
        assert any(at == line and message in said for at, said in faults), (what, faults)
    assert any('"base_model_id" is a required property' in said for _, said in found["missing.toml"])


GOOD = """\
extends = ["base.toml", "acme:defaults"]
[fine_tuner]
rank = "${RANK:-8}"
packing = "${PACKING}"
dtype = "null"
chat_template = "null"
epochs = 0.5
report_to = ["mlflow", "wandb"]
target_modules = "all-linear"
use_gradient_checkpointing = true
"""


def test_what_ftcore_reads_passes(taplo: Taplo, installed: Path) -> None:
    file = installed / "good.toml"
    file.write_text(f"{DIRECTIVE}\n{GOOD}", encoding="utf-8")
    assert taplo.check(file, installed / "config.toml") == {}


def test_an_editors_own_rules_stay_and_give_way(taplo: Taplo, installed: Path) -> None:
    rules = '[[rule]]\ninclude = ["**/*.toml"]\n[rule.schema]\npath = "other.json"\n'
    (installed / ".taplo.toml").write_text(rules, encoding="utf-8")
    (installed / "other.json").write_text('{"type": "object", "required": ["other"]}', encoding="utf-8")
    (installed / "plain.toml").write_text("a = 1\n", encoding="utf-8")
    found = taplo.check(installed / "config.toml", installed / "plain.toml")
    assert found.keys() == {"plain.toml"}


PLUGIN = """\
from typing import Literal
from ftcore import hookimpl
from ftcore.settings import Section
class AcmeSettings(Section):
    "Acme."
    region: Literal["north", "south"] = "north"
    "Where the tickets come from."
@hookimpl
def ftcore_settings():
    return AcmeSettings
@hookimpl
def ftcore_make_reporter(run): ...
"""


def test_an_editor_completes_keys_and_values_of_ftcore_and_of_plugins(
    taplo: Taplo, install: Any, ftcore: Any, tmp_path: Path
) -> None:
    install("acme-ftcore", {"acme_editor": PLUGIN}, {"acme": "acme_editor"})
    config = tmp_path / "config.toml"
    config.write_text('[fine_tuner]\ndtype = ""\n\n[acme]\nregion = ""\n\n[stages]\nloader = ""\n', encoding="utf-8")
    assert ftcore("schema", "--install", str(config)).code == 0
    types, keys, hover, regions, loaders = taplo.ask(
        config,
        ("completion", 2, 9),
        ("completion", 3, 0),
        ("hover", 2, 2),
        ("completion", 5, 10),
        ("completion", 8, 10),
    )
    assert {'"float16"', '"bfloat16"', '"float32"', '"null"'} <= {item["label"] for item in types}
    assert {'"north"', '"south"'} <= {item["label"] for item in regions}
    assert hover["contents"]["value"].strip().startswith("The type of the model's weights.")
    assert hover["contents"]["value"].count("The type of the model's weights.") == 1
    rank = [item for item in keys if item["label"] == "rank"]
    assert [item["insertText"] for item in rank] == ["rank = ${0:16}"]
    assert rank[0]["documentation"]["value"].startswith("The adapter's rank r.")
    assert all(any("documentation" in item for item in keys if item["label"] == name) for name in ("packing", "seed"))
    assert {'"auto"', '"transformers"', '"unsloth"'} <= {item["label"] for item in loaders}
    schema = json.loads((tmp_path / SCHEMA_FILE).read_text(encoding="utf-8"))
    assert "acme" in schema["properties"]["fine_tuner"]["properties"]["report_to"]["anyOf"][0]["enum"]


def test_it_is_installed_once_and_again(ftcore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = b"\xef\xbb\xbf# Mine.\r\n[fine_tuner]\r\nbase_model_id = 'm'\r\n"
    Path("config.toml").write_bytes(before)
    outcome = ftcore("schema", "--install")
    assert outcome.out.splitlines() == [
        f"{SCHEMA_FILE} is written; do so again when plugins come or go",
        f"config.toml names it in its first line: {DIRECTIVE}",
    ]
    written = Path("config.toml").read_bytes()
    assert written == before.replace(b"# Mine", f"{DIRECTIVE}\r\n# Mine".encode())
    Path(SCHEMA_FILE).write_text('{"title": "ftcore configuration", "older": true}', encoding="utf-8")
    assert f"names it in line 1 already: {DIRECTIVE}" in ftcore("schema", "--install", "config.toml").out
    assert Path("config.toml").read_bytes() == written
    printed = ftcore("schema")
    assert json.loads(Path(SCHEMA_FILE).read_text(encoding="utf-8")) == json.loads(printed.out)
    both = ftcore("schema", "--install", "--print")
    assert (both.out, len(both.errors)) == (printed.out, 2)
    assert ftcore("check", "config.toml").errors[0].startswith("error: config.toml:3: ")


REFUSED = {
    "no such file": (None, {}, "there is no file config.toml. Check the path"),
    "no TOML": ("[fine_tuner", {}, "config.toml:1:12: not valid TOML: "),
    "another schema": ("# x\n#:schema https://example.org/x.json\n", {}, f"config.toml:2: the line #:schema https://example.org/x.json names another schema. Remove it, or write {DIRECTIVE}"),
    "another file": ("", {SCHEMA_FILE: "{}"}, f"{SCHEMA_FILE} is there and is no schema of ftcore. Remove or rename it"),
    "a broken file": ("", {SCHEMA_FILE: "{"}, f"{SCHEMA_FILE} is there and is no schema of ftcore. Remove or rename it"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_is_destroyed(ftcore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    text, others, message = REFUSED[what]
    monkeypatch.chdir(tmp_path)
    files = others | ({} if text is None else {"config.toml": text})
    for name, content in files.items():
        Path(name).write_text(content, encoding="utf-8")
    outcome = ftcore("schema", "--install")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert outcome.errors[0].startswith(f"error: {message}")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == files
