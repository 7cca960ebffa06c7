"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generate() -> Any:
    specification = importlib.util.spec_from_file_location("ftcore_docs_generate", PROJECT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["configuration.md", "hooks.md", "life.md", "life.svg", "testing-plugins.md"])
def test_the_pages_are_current(generate: Any, page: str) -> None:
    written = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    assert written == generate.PAGES[page](), "run `python docs/generate.py`"


def test_the_hooks_headings_are_the_signatures_in_the_source() -> None:
    tree = ast.parse((PROJECT / "core" / "ftcore" / "hookspecs.py").read_text(encoding="utf-8"))
    signatures = [
        f"## {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns or ast.Constant(None))}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    page = (PROJECT / "docs" / "hooks.md").read_text(encoding="utf-8")
    headings = [line for line in page.splitlines() if line.startswith("## ftcore_")]
    assert len(signatures) > 10
    assert headings == signatures


def test_every_name_of_the_contract_is_on_the_page() -> None:
    from ftcore import contracts

    page = (PROJECT / "docs" / "hooks.md").read_text(encoding="utf-8")
    shown = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    assert sorted(shown) == sorted(contracts.__all__)


def test_methods_are_shown_as_they_are_called() -> None:
    page = (PROJECT / "docs" / "hooks.md").read_text(encoding="utf-8")
    assert "`loss(folder: Path, *, adapter: Path | None = None, dtype: str | None = None) -> float`" in page


def test_every_key_of_every_section_is_on_the_page(plugins: Any) -> None:
    from ftcore.config import CORE_SECTIONS

    page = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section, model in (CORE_SECTIONS | plugins.sections).items():
        for key in model.model_fields:
            assert f'<a id="{section}-{key}"></a>**`{key}`** · ' in page


def test_the_check_fails_for_a_stale_page(generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PROJECT / "docs" / "testing-plugins.md", tmp_path)  # of which only the end is written
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "hooks.md").write_text("old", encoding="utf-8")
    assert generate.main(["--check"]) == 1
