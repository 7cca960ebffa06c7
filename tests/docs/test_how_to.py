"""The how-to of each kind: its plugin is installed, and its configuration run, as the page says."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli
from doc_pages import DOCS, HOW_TO, commands, snippets

from ftcore.cache import cache_folder
from ftcore.contracts import DataRequest, Locator
from ftcore.testing import check_plugin
from ftcore.testing.installed import distribution
from ftcore.testing.project import FILLED_IN, ROWS, Project

pytest.importorskip("transformers")


Outputs = Mapping[str, str]
"""What each command printed, by its words behind `ftcore`."""


def ran(project: Project) -> Path:
    """The directory of the only run, which has finished."""
    (run,) = project.runs()
    assert run.manifest["status"] == "finished"
    return run.path


def data(project: Project, outputs: Outputs) -> None:
    assert json.loads((ran(project) / "manifest.json").read_text())["data"]["training_rows"] == 2


def formatter(project: Project, outputs: Outputs) -> None:
    letters = re.sub(r"[^A-Za-z]", "", outputs["preview config.toml"])  # there are marks between the tokens
    assert "YoutranslateEnglishintoGerman" in letters


def loader(project: Project, outputs: Outputs) -> None:
    assert "loader     store: torch.float32" in (ran(project) / "run.log").read_text()


def trainer(project: Project, outputs: Outputs) -> None:
    metrics = json.loads((ran(project) / "manifest.json").read_text())["metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"]


def reporter(project: Project, outputs: Outputs) -> None:
    ran(project)
    with contextlib.closing(sqlite3.connect(project.path / "all-runs.db")) as database:
        assert database.execute("SELECT run, status FROM runs").fetchall() == [("support-0.1", "finished")]
        assert database.execute("SELECT count(*) FROM metrics WHERE name = 'loss'").fetchone()[0] >= 1


def saver(project: Project, outputs: Outputs) -> None:
    ran(project)
    assert (project.path / "shelf" / "support-0.1" / "adapter_model.safetensors").exists()


def namer(project: Project, outputs: Outputs) -> None:
    assert ran(project).name.startswith("model-r4-")


def launcher(project: Project, outputs: Outputs) -> None:
    assert "launcher   nice -n 5 " in (ran(project) / "run.log").read_text()


OUTCOMES: dict[str, Callable[[Project, Outputs], None]] = {
    found.__name__: found for found in (data, formatter, loader, trainer, reporter, saver, namer, launcher)
}
"""What has happened when a page's commands have run."""


IN_THIS_PROCESS = [pytest.param(page, marks=pytest.mark.slow if page.stem == "launcher" else ()) for page in HOW_TO]
"""A launcher's job imports everything once more."""


@pytest.fixture
def project(tmp_path: Path, ftcore_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A folder that has what a reader of the page has: data of his own, a folder of models, a shelf."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    project = Project(folder, lambda: ftcore_model)
    project.data(ROWS)
    project.data(ROWS[:2], "validation.jsonl")
    (folder / "shelf").mkdir()
    shutil.copytree(ftcore_model, folder / "models" / "support-base")
    before = set(sys.modules)
    yield project
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_there_is_one_for_each_kind() -> None:
    assert sorted(page.stem for page in HOW_TO) == sorted(OUTCOMES)


@pytest.mark.parametrize("page", IN_THIS_PROCESS, ids=lambda page: page.stem)
def test_it_works(page: Path, project: Project, ftcore_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = installed(page, project, monkeypatch)
    tiny = [part for value in overrides(page, ftcore_model) for part in ("--set", value)]
    typed = [words[1:] for words in commands(page) if words[:1] == ["ftcore"]]
    assert ["run", "config.toml"] in typed
    outputs = {}
    for words in typed:
        configured = tiny if "config.toml" in words else []
        done = project.ftcore(*words, *configured)
        assert done.exit_code == 0, f"ftcore {' '.join(words)}\n{done.output}"
        if words[:2] == ["plugins", "why"]:
            assert f" {name} " in done.output
        outputs[" ".join(words)] = done.output
    OUTCOMES[page.stem](project, outputs)


def test_the_source_for_many_rows_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page,) = (page for page in HOW_TO if page.stem == "data")
    blocks = {snippet.title or snippet.kind: snippet.body for snippet in snippets(page)}
    (tmp_path / "support.md").write_text(blocks["support.md"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    request = DataRequest(Locator("faq:support.md", "support.md"), "training", num_proc=1, seed=0, base_dir=tmp_path)
    once: dict[str, Any] = {}
    exec(blocks["ftcore_faq.py"], once)
    many = dict(once)
    exec(blocks["python"], many)
    rows = many["ftcore_load_dataset"](request)
    assert rows.to_list() == once["ftcore_load_dataset"](request).to_list()
    assert [Path(file["filename"]).parents[1] for file in rows.cache_files] == [cache_folder() / "faq"]


def test_the_first_page_works(project: Project, ftcore_model: Path) -> None:
    page = DOCS / "index.md"
    for snippet in snippets(page):
        if snippet.title:
            (project.path / snippet.title).write_text(snippet.body, encoding="utf-8")
    values = [f"fine_tuner.{key}={json.dumps(value)}" for key, value in FILLED_IN["fine_tuner"].items()]
    values += [f"fine_tuner.base_model_id={json.dumps(str(ftcore_model))}", "stages.loader=transformers"]
    tiny = [part for value in values for part in ("--set", value)]
    for words in (words[1:] for words in commands(page) if words[0] == "ftcore"):
        done = project.ftcore(*words, *(tiny if "config.toml" in words else []))
        assert done.exit_code == 0, f"ftcore {' '.join(words)}\n{done.output}"
    assert ran(project).name == "support-0.1"


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_it_keeps_the_contract(page: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    name = installed(page, project, monkeypatch)
    monkeypatch.chdir(project.path)
    check_plugin(name)


def installed(page: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the files of a page, and install its plugin; the plugin's name."""
    files = {snippet.title: snippet.body for snippet in snippets(page) if snippet.title}
    for title, body in files.items():
        (project.path / title).write_text(body, encoding="utf-8")
    (entry_points,) = (tomli.loads(files["pyproject.toml"])["project"]["entry-points"]["ftcore"],)
    ((name, module),) = entry_points.items()
    site = project.path.parent / "site"
    distribution(site, f"ftcore-{name}", entry_points)
    (site / f"{module}.py").write_text(files[f"{module}.py"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))  # for a job in a process of its own
    importlib.invalidate_caches()
    return name


def overrides(page: Path, model: Path) -> list[str]:
    """What makes the page's run a tiny one."""
    (text,) = (snippet.body for snippet in snippets(page) if snippet.title == "config.toml")
    given = tomli.loads(text)
    values = {key: value for key, value in FILLED_IN["fine_tuner"].items() if key not in given["fine_tuner"]}
    values |= {"epochs": 2} if page.stem == "trainer" else {}
    if not given["fine_tuner"]["base_model_id"].startswith("store:"):
        values["base_model_id"] = str(model)
    tables = [f"fine_tuner.{key}={json.dumps(value)}" for key, value in values.items()]
    return tables + ([] if "loader" in given.get("stages", {}) else ["stages.loader=transformers"])
