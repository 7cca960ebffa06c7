"""`ftcore plugins new`: what it writes, what it refuses, and that what it writes is a plugin."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from ftcore.new_plugin.choices import KINDS, LICENSES
from ftcore.new_plugin.names import LONGEST, Names
from ftcore.new_plugin.package import NewPlugin, requirement, write
from ftcore.plugins import discover, discovery
from ftcore.testing.installed import distribution
from ftcore.testing.project import Project

TEMPLATES = Path(sys.modules["ftcore.new_plugin.package"].__file__ or "").parent / "templates"
EVERY_PACKAGE = (
    ".github/workflows/test.yml", ".gitignore", "CONTRIBUTING.md", "LICENSE", "README.md", "pyproject.toml",
    "src/ftcore_zoo/__init__.py", "src/ftcore_zoo/py.typed", "src/ftcore_zoo/settings.py", "tests/test_zoo.py",
)  # fmt: skip


def plugin(name: str, kind: str, license: str = "mit") -> NewPlugin:
    return NewPlugin(Names(name), kind, 'Ada "the first" Lovelace', license)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a package and lays it out as installed, for the length of a test."""

    def make(name: str, kind: str) -> Path:
        folder = tmp_path / name
        write(plugin(name, kind), folder)
        names = Names(name)
        site = distribution(folder / "src", names.distribution, {name: names.package})
        monkeypatch.syspath_prepend(str(site))
        return folder

    yield make
    for module in [module for module in sys.modules if module.startswith("ftcore_zoo")]:
        del sys.modules[module]


def test_every_kind_of_plugin_can_be_begun() -> None:
    assert set(KINDS) == set(discovery.STAGE_OF_HOOK.values()) - {"model"}
    assert {folder.name for folder in TEMPLATES.iterdir()} == {"any", *KINDS}
    assert {file.name for file in (TEMPLATES / "any").glob("LICENSE.*")} == {f"LICENSE.{name}.in" for name in LICENSES}


def test_the_command_says_what_it_wrote_and_what_comes_next(ftcore: Any, here: Path) -> None:
    outcome = ftcore("plugins", "new", "zoo", "--kind", "saver")
    assert outcome.code == 0, outcome.err
    written = sorted(str(path.relative_to(here / "ftcore-zoo")) for path in here.rglob("*") if path.is_file())
    assert set(EVERY_PACKAGE) < set(written)
    lines = outcome.out.splitlines()
    assert lines[0] == "ftcore-zoo has a saver: the trained model as a zip file."
    assert sorted(line.strip() for line in lines[1 : lines.index("Next:")]) == written
    assert lines[-3:] == ["  cd ftcore-zoo", "  pip install -e '.[dev]'", "  pytest"]


def test_it_writes_beside_what_is_there_and_never_over_it(ftcore: Any, here: Path) -> None:
    (here / "a repo" / ".git").mkdir(parents=True)
    outcome = ftcore(
        "plugins", "new", "zoo", "--kind", "namer", "--into", "a repo", "--author", "Ada", "--license", "mit"
    )
    assert outcome.code == 0, outcome.err
    assert "  cd 'a repo'" in outcome.out
    licence = here / "a repo" / "LICENSE"
    assert "Copyright (c) 20" in licence.read_text()
    assert licence.read_text().splitlines()[2].endswith(" Ada")
    licence.write_text("mine")
    (here / "a repo" / "README.md").unlink()
    again = ftcore("plugins", "new", "zoo", "--kind", "namer", "--into", "a repo")
    assert again.code == 2
    (line,) = again.errors
    assert "a repo has .github/workflows/test.yml, .gitignore, CONTRIBUTING.md and others already" in line
    assert licence.read_text() == "mine"
    assert not (here / "a repo" / "README.md").exists()


def test_where_nothing_can_be_written_that_is_said(ftcore: Any, here: Path) -> None:
    (here / "file").touch()
    for folder in ("file", "file/below"):
        outcome = ftcore("plugins", "new", "zoo", "--kind", "namer", "--into", folder)
        assert outcome.code == 2
        assert len(outcome.errors) == 1
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qa", "plugin 'qa' (ftcore "),
        ("data", "Python has a package ftcore_data here. Choose another, like my-data"),
        ("auto", "means something else in a configuration"),
        ("fine_tuner", "means something else in a configuration"),
        ("x", "has 2 to 30 characters"),
        ("x" * 31, "has 2 to 30 characters"),
        ("ftcore-zoo", "Did you mean zoo?"),
        ("AcmeZoo", "Did you mean acme-zoo?"),
        ("two words", "Did you mean two-words?"),
        ("zoo--x", "Did you mean zoo-x?"),
        ("3d-zoo", "Did you mean d-zoo?"),
        ("-zoo", "Did you mean zoo?"),
        ("zoo_", "Did you mean zoo?"),
        ("Qa", "Take letters a to z"),
        ("ü", "Take letters a to z"),
        ("../zoo", "Did you mean zoo?"),
    ],
)
def test_a_name_that_cannot_be_is_refused(ftcore: Any, here: Path, name: str, message: str) -> None:
    outcome = ftcore("plugins", "new", "--kind", "namer", "--", name)
    assert outcome.code == 2
    (line,) = outcome.errors
    assert message in line
    assert not list(here.iterdir())


def test_a_name_that_another_package_has_is_refused(ftcore: Any, here: Path, install: Any) -> None:
    install("ftcore-zoo", {"ftcore_keeper": ""}, {"keeper": "ftcore_keeper"})
    for name, message in (
        ("keeper", "plugin 'keeper' (ftcore-zoo 1.2.3)"),
        ("zoo", "the package ftcore-zoo is installed"),
    ):
        outcome = ftcore("plugins", "new", name, "--kind", "namer")
        assert outcome.code == 2
        assert message in outcome.err


def test_the_range_begins_with_this_ftcore_and_is_open() -> None:
    assert requirement(version="0.1.0") == "ftcore>=0.1"
    assert requirement("train", version="1.4.2") == "ftcore[train]>=1.4"
    assert requirement(version="2.0.0rc1+local") == "ftcore>=2.0.0rc1"


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_names_nothing_but_itself(kind: str) -> None:
    for license, identifier in LICENSES.items():
        files = {str(path): text for path, text in plugin("zoo", kind, license).files().items()}
        assert set(EVERY_PACKAGE) <= files.keys()
        assert not [path for path, text in files.items() if "PLUGIN_" in path + text]
        assert "Lovelace" in files["LICENSE"]
        project = tomllib.loads(files["pyproject.toml"])
        assert project["project"]["authors"] == [{"name": 'Ada "the first" Lovelace'}]
        assert project["project"]["license"] == identifier
        assert project["project"]["entry-points"] == {"ftcore": {"zoo": "ftcore_zoo"}}
        assert set(project["tool"].get("ftcore", {}).get("conformance", {"zoo": {}})) == {"zoo"}
        assert "${{ matrix.python }}" in files[".github/workflows/test.yml"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_declares_what_it_imports(kind: str) -> None:
    files = {path: text for path, text in plugin("zoo", kind).files().items() if path.parts[0] == "src"}
    imported: set[str] = set()
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)) if path.suffix == ".py" else ():
            if isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
    others = imported - sys.stdlib_module_names - {"ftcore_zoo"}
    declared = [Requirement(text) for text in plugin("zoo", kind).requirements()]
    heavy = others & {"datasets", "peft", "torch", "transformers"}
    assert [needed.extras for needed in declared if needed.name == "ftcore"] == [{"train"} if heavy else set()]
    assert others - heavy == {needed.name for needed in declared}


@pytest.mark.parametrize("name", ["zz", "zoo-keeper", "x" * LONGEST])
def test_the_code_is_formatted_and_linted_whatever_the_name(tmp_path: Path, name: str) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    for kind in KINDS:
        write(plugin(name, kind), tmp_path / kind)
    for command in (("check", "--no-cache"), ("format", "--no-cache", "--diff")):
        done = subprocess.run([ruff, *command, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_plugin_that_serves(installed: Any, kind: str) -> None:
    installed("zoo", kind)
    plugins = discover(disabled=())
    record = plugins.get("zoo")
    assert record is not None
    assert (record.state, record.stages) == ("ok", (kind,)), record.reason
    assert record.settings is not None
    assert all(field.description for field in record.settings.model_fields.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_readmes_configuration_is_right(
    installed: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed("zoo", kind)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    text = readme.partition("```toml\n")[2].partition("```")[0]
    project = Project(tmp_path, lambda: tmp_path)
    for path in ("data/questions.jsonl", "train.jsonl", "tickets.jsonl"):
        project.data([{"question": "How many?", "answer": "Two."}], path)
    (tmp_path / "SmolLM2-135M-Instruct").mkdir()
    (tmp_path / "SmolLM2-135M-Instruct" / "config.json").write_text("{}")
    config = project.config(text.replace('"/models"', f'"{tmp_path}"'), fill=False)
    checked = project.ftcore("check", config)
    assert checked.exit_code == 0, checked.output
    assert "warning" not in checked.output
    settings = discover(disabled=()).sections["zoo"]
    table = readme.partition("| key of `[zoo]` |")[2].partition("\n\n")[0]
    documented = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert documented == list(settings.model_fields)
    for line in table.splitlines()[2:]:
        key, value = line.split("`")[1], tomllib.loads(f"value = {line.split('`')[3]}")["value"]
        default = settings.model_fields[key].default
        assert value == ("null" if default is None else str(default) if isinstance(default, Path) else default), key
