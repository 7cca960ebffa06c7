"""Importing the heavy libraries in less time than they take by themselves.

Much of what happens when they are imported serves nothing that a run needs: the garbage collector looks again and again at
the hundred thousands of objects that stay, and optional packages, where they are installed, are imported for features that
nobody asks for. What is left out here happens when it is used for the first time.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_HEAVIEST = "torch"
"""A process that has imported it has most of the others too, and holds memory that may be garbage some day."""


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Inside the block, where the heavy libraries are imported for the first time, nothing is collected.

    Behind it, the collector does not look at what was made by then any more: modules stay until the end. Optional packages
    go on being postponed. With `FTCORE_PLAIN_IMPORTS=1` in the environment, all is imported as it comes.
    """
    if os.environ.get("FTCORE_PLAIN_IMPORTS"):
        yield
        return
    _postpone()
    if _HEAVIEST in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _HEAVIEST in sys.modules:
            gc.freeze()
        gc.enable()


def _postpone() -> None:
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Finds the modules of `_WHILE` where they are, and lets each be executed inside of its block."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        surrounding = _WHILE.get(name)
        spec = PathFinder.find_spec(name, path, target) if surrounding else None
        if surrounding is None or spec is None or not hasattr(spec.loader, "__dict__"):
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def executed(module: ModuleType) -> None:
            del loader.exec_module  # the loader is as it was
            with surrounding():
                execute(module)

        loader.exec_module = executed
        return spec


@contextlib.contextmanager
def _stood_in_for(name: str, functions: frozenset[str]) -> Iterator[None]:
    """Inside the block, a module is imported only if something of it is used; its functions only if they are called."""
    spec = None if name in sys.modules else _found(name)
    if spec is None:
        yield
        return
    stand_in = sys.modules[name] = _Later(spec, functions)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _found(name: str) -> ModuleSpec | None:
    """Where a module is. Unlike `importlib.util.find_spec` it does not import the packages that it is in."""
    package = name.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(name)
    within = _found(package)
    return PathFinder.find_spec(name, within.submodule_search_locations) if within is not None else None


class _Later(ModuleType):
    """Stands for a module, which is imported when something of it is used.

    Args:
        spec: the module's.
        functions: of the module, which are promised without looking; the module is imported when one is called.
    """

    def __init__(self, spec: ModuleSpec, functions: frozenset[str]) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations  # asked for by every `from ... import`
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        if name not in self._functions:
            return getattr(self._module(), name)

        def later(*args: Any, **kwargs: Any) -> Any:
            return getattr(self._module(), name)(*args, **kwargs)

        return later

    def _module(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


@contextlib.contextmanager
def _compiled_when_called() -> Iterator[None]:
    """Inside the block, `torch.compile` waits for the first call: it would import all of torch's compiler at once."""
    import torch

    now = torch.compile

    def later(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        compiled = functools.cache(lambda: now(function, **options))
        return lambda *args, **kwargs: compiled()(*args, **kwargs)

    torch.compile = later
    try:
        yield
    finally:
        torch.compile = now


@contextlib.contextmanager
def _distributions_known() -> Iterator[None]:
    """Inside the block, which packages are installed is what transformers has just read from all their files."""
    now = importlib.metadata.packages_distributions
    known = getattr(sys.modules.get("transformers.utils.import_utils"), "PACKAGE_DISTRIBUTION_MAPPING", None)
    if isinstance(known, Mapping):
        importlib.metadata.packages_distributions = lambda: known
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = now


@contextlib.contextmanager
def _promised(functions: Mapping[str, Iterable[str]]) -> Iterator[None]:
    """Inside the block, several modules are only stood in for, and these functions of theirs are promised."""
    with contextlib.ExitStack() as stack:
        for name, promised in functions.items():
            stack.enter_context(_stood_in_for(name, frozenset(promised)))
        yield


_WHILE: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    # speculative decoding
    "transformers.generation.candidate_generator": functools.partial(_promised, {"sklearn.metrics": ["roc_curve"]}),
    # the loss of models that look for objects in pictures
    "transformers.loss.loss_utils": functools.partial(_promised, {"scipy.optimize": ["linear_sum_assignment"]}),
    # the scores of the GLUE benchmark
    "transformers.data.metrics": functools.partial(
        _promised,
        {"scipy.stats": ["pearsonr", "spearmanr"], "sklearn.metrics": ["f1_score", "matthews_corrcoef"]},
    ),
    # a dialogue about Amazon's machines
    "accelerate.commands.config.sagemaker": functools.partial(_promised, {"boto3": []}),
    # four functions for quantized weights on a CPU
    "bitsandbytes.backends.default.ops": _compiled_when_called,
    "trl.import_utils": _distributions_known,
}
"""Modules of the libraries that take long for little, and what surrounds them while they are executed."""
