"""The fixtures and the option `--ftcore-plugin` that pytest has where ftcore is installed.

Every pytest session in such an environment imports this module: it imports pytest and nothing else.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ftcore.testing.conformance.setup import PluginSetup
    from ftcore.testing.hub import FakeHub
    from ftcore.testing.memory_reporter import MemoryReporter
    from ftcore.testing.project import Project
    from ftcore.testing.recorder import HookRecorder


@pytest.fixture(scope="session")
def ftcore_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model with its tokenizer, made once per session; needs `ftcore[train]`."""
    from ftcore.testing.models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("ftcore") / "model")


@pytest.fixture
def ftcore_project(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder with data and a configuration, which can be run for real."""
    from ftcore.testing.project import Project

    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    return Project(folder, lambda: request.getfixturevalue("ftcore_model"))


@pytest.fixture
def ftcore_hooks() -> Iterator[HookRecorder]:
    """Records the hooks that ftcore calls from now on: `.calls`, `.names()`, `.of("ftcore_save")`."""
    from ftcore.testing.recorder import HookRecorder

    with HookRecorder().watching() as recorder:
        yield recorder


@pytest.fixture
def ftcore_reporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryReporter:
    """A reporter in memory, which configurations name `memory`; it fails on demand."""
    from ftcore.testing import memory_reporter
    from ftcore.testing.installed import distribution

    target = f"{memory_reporter.__name__}:plugin"
    site = distribution(tmp_path / "ftcore-memory", "ftcore-memory", {"memory": target})
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(memory_reporter.plugin, "reporter", memory_reporter.MemoryReporter())
    return memory_reporter.plugin.reporter


@pytest.fixture
def ftcore_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hugging Face Hub on loopback; the environment has its address, and a token of the user `ada`."""
    from ftcore.testing.hub import FakeHub

    with FakeHub() as hub:
        token = hub.add_token("hf_WriteTokenOfAda0123456789", user="ada")
        # The client and the library for datasets read the environment when they are imported. They are here, before there
        # is anything of this test in it that would last.
        known = _read_at_import(hub.url, tmp_path / "hf-home")
        there = [name for name in known if importlib.util.find_spec(name.partition(".")[0])]
        for module, values in [(importlib.import_module(name), known[name]) for name in there]:
            for name, value in values.items():
                monkeypatch.setattr(module, name, value)
        for name, value in {**hub.environment(token), "HF_HOME": str(tmp_path / "hf-home")}.items():
            monkeypatch.setenv(name, value)
        yield hub


def _read_at_import(url: str, home: Path) -> Mapping[str, Mapping[str, object]]:
    """What modules have taken from the environment, as it is with a Hub at that address."""
    return {
        "huggingface_hub.constants": {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        },
        "datasets.config": {
            "HF_ENDPOINT": url,
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_HUB_OFFLINE": False,
        },
    }


@pytest.fixture
def ftcore_conformance() -> PluginSetup | Mapping[str, PluginSetup] | None:
    """What a plugin needs to be tried by `--ftcore-plugin`: a `PluginSetup`, or several by the plugins' names.

    Define it in your `conftest.py`. None takes the table `[tool.ftcore.conformance.NAME]` of `pyproject.toml`.
    """
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--ftcore-plugin` and `--ftcore-kind`."""
    group = parser.getgroup("ftcore", "plugins of ftcore")
    group.addoption(
        "--ftcore-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="hold an installed plugin of ftcore against the contract: one test for each rule (may be repeated)",
    )
    group.addoption(
        "--ftcore-kind",
        action="append",
        default=[],
        metavar="KIND",
        help="look at it as this kind, instead of what its hooks serve (may be repeated)",
    )


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Note the folders' nodes, in one of which the fixture `ftcore_conformance` may be."""
    if isinstance(collector, pytest.Directory) and collector.config.getoption("ftcore_plugin"):
        from ftcore.testing.conformance import items as rules

        rules.note(collector)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the rules, before `-k` and others choose among the tests."""
    if names := config.getoption("ftcore_plugin"):
        from ftcore.testing.conformance import items as rules

        found = rules.items(session, names, config.getoption("ftcore_kind"))
        items += found
        config.hook.pytest_collectreport(report=pytest.CollectReport("ftcore-plugin", "passed", None, list(found)))
