"""Heavy libraries are imported without what nobody asks for, and what was left out is there when somebody does."""

from __future__ import annotations

import functools
import gc
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcore.run import imports
from ftcore.run.imports import quick_imports

PROGRAM = """
import sys
from ftcore.run.imports import quick_imports
with quick_imports():
    from transformers import AutoModelForCausalLM
import peft
from trl import SFTTrainer
postponed = {"sklearn", "scipy", "boto3", "torch._inductor.compile_fx"}
assert not postponed & sys.modules.keys(), postponed & sys.modules.keys()

import transformers.utils.import_utils as known
assert sys.modules["trl.import_utils"].PACKAGE_DISTRIBUTION_MAPPING is known.PACKAGE_DISTRIBUTION_MAPPING
assert peft.import_utils.is_bnb_4bit_available()

from transformers.data import metrics
from transformers.generation import candidate_generator
if candidate_generator.is_sklearn_available():
    rates, found, limits = candidate_generator.roc_curve([0, 1, 1], [0.1, 0.4, 0.8])
    assert list(found) == [0, 0.5, 1, 1], found
    assert "scipy" in sys.modules
    assert metrics.f1_score([1, 0], [1, 0]) == 1
    assert metrics.spearmanr([1, 2, 3], [1, 2, 3]).statistic == 1
if dialogue := sys.modules.get("accelerate.commands.config.sagemaker"):
    assert dialogue.boto3.client and "boto3" in sys.modules
"""


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is heavy, and others that import it; all are forgotten afterwards."""
    heavy = tmp_path / "heavy_one"
    heavy.mkdir()
    (heavy / "__init__.py").write_text("ANSWER = 42\n")
    (heavy / "metrics").mkdir()
    (heavy / "metrics" / "__init__.py").write_text("def area(side):\n    return side * side\n")
    (heavy / "metrics" / "units.py").write_text("from . import area\n\nMETRE = area(1)\n")
    (tmp_path / "by_name.py").write_text("import heavy_one\n\ndef answer():\n    return heavy_one.ANSWER\n")
    (tmp_path / "by_function.py").write_text("from heavy_one.metrics import area\n")
    (tmp_path / "by_part.py").write_text("import heavy_one.metrics.units as units\n")
    (tmp_path / "at_once.py").write_text("import heavy_one\n\nFOUND = heavy_one.ANSWER\n")
    (tmp_path / "needs_missing.py").write_text("import missing_one\n")
    whole = functools.partial(imports._promised, {"heavy_one": []})
    one = functools.partial(imports._promised, {"heavy_one.metrics": ["area"]})
    missing = functools.partial(imports._promised, {"missing_one": []})
    table = {"by_name": whole, "at_once": whole, "by_function": one, "by_part": one, "needs_missing": missing}
    monkeypatch.setattr(imports, "_WHILE", table)
    monkeypatch.syspath_prepend(str(tmp_path))
    before, finders = set(sys.modules), list(sys.meta_path)
    with quick_imports():
        pass
    yield tmp_path
    sys.meta_path[:] = finders
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_a_module_is_imported_when_something_of_it_is_used(libraries: Path) -> None:
    module = importlib.import_module("by_name")
    assert "heavy_one" not in sys.modules
    assert module.answer() == 42
    assert sys.modules["heavy_one"].__file__ == str(libraries / "heavy_one" / "__init__.py")


def test_a_promised_function_is_imported_when_it_is_called(libraries: Path) -> None:
    module = importlib.import_module("by_function")
    assert not {"heavy_one", "heavy_one.metrics"} & sys.modules.keys()
    assert module.area(3) == 9
    assert sys.modules["heavy_one.metrics"] is sys.modules["heavy_one"].metrics
    assert sys.modules["heavy_one.metrics"].area(side=4) == module.area(side=4) == 16


def test_what_is_used_at_once_is_imported_at_once(libraries: Path) -> None:
    assert importlib.import_module("at_once").FOUND == 42
    assert sys.modules["heavy_one"].ANSWER == 42


def test_a_part_of_it_can_be_imported_meanwhile(libraries: Path) -> None:
    assert importlib.import_module("by_part").units.METRE == 1


def test_a_module_that_is_there_already_is_used_as_it_is(libraries: Path) -> None:
    heavy = importlib.import_module("heavy_one")
    assert importlib.import_module("by_name").heavy_one is heavy


def test_a_package_that_is_missing_is_missing_as_ever(libraries: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="missing_one"):
        importlib.import_module("needs_missing")


def test_a_module_keeps_its_loader_and_its_source(libraries: Path) -> None:
    module = importlib.import_module("by_name")
    assert "exec_module" not in vars(module.__loader__)
    assert module.__loader__ is module.__spec__.loader
    assert "heavy_one" in module.__loader__.get_source("by_name")


@pytest.mark.usefixtures("libraries")
def test_nothing_is_collected_while_the_first_libraries_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    kept = gc.get_freeze_count()
    try:
        with quick_imports():
            assert not gc.isenabled()
            monkeypatch.setitem(sys.modules, "torch", pytest)
        assert gc.isenabled()
        assert gc.get_freeze_count() > kept
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("libraries")
def test_the_collector_goes_on_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    kept = gc.get_freeze_count()
    with pytest.raises(ImportError, match="broken"), quick_imports():
        raise ImportError("broken")
    assert gc.isenabled()
    assert gc.get_freeze_count() == kept


@pytest.mark.usefixtures("libraries")
def test_the_collector_goes_on_where_torch_is_imported_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", pytest)
    kept = gc.get_freeze_count()
    with quick_imports():
        assert gc.isenabled()
    assert gc.get_freeze_count() == kept


def test_the_environment_can_want_plain_imports(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCORE_PLAIN_IMPORTS", "1")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder is not imports._Finder])
    with quick_imports():
        assert gc.isenabled()
        importlib.import_module("by_name")
    assert "heavy_one" in sys.modules


@pytest.mark.slow
def test_the_libraries_as_they_are() -> None:
    pytest.importorskip("trl", reason="training needs the extra [train]")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
