"""The drawing of a run's life: every hook is on it, where it is called."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from doc_pages import DOCS

from ftcore import contracts
from ftcore.plugins.discovery import SPECIFICATIONS
from ftcore.testing.memory_reporter import MemoryReporter
from ftcore.testing.project import Project
from ftcore.testing.recorder import HookRecorder

AT_ANY_TIME = {"ftcore_make_reporter"}
"""Called from a thread of its own."""


@pytest.fixture(scope="module")
def life() -> Any:
    return beside("life")


def beside(name: str) -> Any:
    """A module of the folder `docs`, which is no package."""
    specification = importlib.util.spec_from_file_location(f"ftcore_docs_{name}", DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_every_hook_is_there_and_no_other(life: Any) -> None:
    assert set(life.hooks()) == set(SPECIFICATIONS)


def test_methods_are_those_of_the_contracts(life: Any) -> None:
    methods = [call.name for part in life.LIFE for step in part.steps for call in step.calls if not call.is_hook]
    assert methods
    for method in methods:
        kind, _, attribute = method.partition(".")
        assert callable(getattr(getattr(contracts, kind), attribute))


def test_the_drawing_shows_and_links_every_hook() -> None:
    drawing = ElementTree.parse(DOCS / "life.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    names = [text.text for text in drawing.iter(f"{space}text") if text.get("class") == "life-name"]
    assert set(SPECIFICATIONS) <= set(names)
    links = {link.get("href") for link in drawing.iter(f"{space}a")}
    assert {f"hooks.html#{hook}" for hook in SPECIFICATIONS} <= links
    assert drawing.get("role") == "group"  # an image would hide its links from screen readers
    described = drawing.find(f"{space}desc")
    assert described is not None
    assert all(hook in (described.text or "") for hook in SPECIFICATIONS)


def test_nothing_in_the_drawing_hangs_over(life: Any) -> None:
    """Texts are within their boxes, as far as that can be known without a font: some 6 units a letter, 8 in code."""
    width = beside("life_drawing")._RIGHT_WIDTH - 20
    for part in life.LIFE:
        for step in part.steps:
            for call in step.calls:
                assert len(call.who) * 6.4 < width, call.who
                assert len(call.name) * 8 < width, call.name


def test_the_order_is_that_of_a_real_run(
    life: Any, ftcore_hooks: HookRecorder, ftcore_project: Project, ftcore_reporter: MemoryReporter
) -> None:
    ftcore_project.run({"fine_tuner": {"report_to": "memory"}, "stages": {"loader": "auto"}})
    assert ftcore_reporter.finished == ["finished"]
    called = list(dict.fromkeys(ftcore_hooks.names()))
    drawn = [call.name for part in life.LIFE[:2] for step in part.steps for call in step.calls if call.is_hook]
    assert len(called) >= 10
    assert set(called) <= set(drawn)
    first = [hook for hook in dict.fromkeys(drawn) if hook in called]
    assert [hook for hook in called if hook not in AT_ANY_TIME] == [hook for hook in first if hook not in AT_ANY_TIME]


def test_the_words_below_have_the_same_hooks() -> None:
    text = (DOCS / "life.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[`(ftcore_\w+)`\]\(hooks\.md#\1\)", text)) == set(SPECIFICATIONS)
