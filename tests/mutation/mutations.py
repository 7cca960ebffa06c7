"""Breaks the labelling on purpose, in one way after another, and runs the tests on it: each must fail.

    python tests/mutation/mutations.py            all of them; exit status 1 if one survives
    python tests/mutation/mutations.py NAME...    these
    python tests/mutation/mutations.py --list     their names

A mutation replaces a piece of the real source while the module is imported, in a process of its own. A piece that is not
there exactly once is an error too, so that this list cannot fall behind the code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
CHECKED_BY = [
    "plugins/test_sft_labels.py",
    "plugins/test_sft_prepare.py",
    "plugins/test_sft_families.py",
    "test_templates.py",
]
"""The tests that have to notice, in the order in which they are run."""


_BY_IDS = "plugins/test_sft_labels.py::test_labels_by_ids_are_labels_by_text"


@dataclass(frozen=True)
class Mutation:
    """A piece of a module's source, and what stands in its place.

    Attributes:
        noticed_by: the test that is tried first; the others have their turn if it lets the mutation pass.
    """

    module: str
    old: str
    new: str
    noticed_by: str = _BY_IDS


_ANSWERS_OPEN = "    events[answers + len(markers.answer_ids)] = 1\n"
_ONE_OF_EACH_ROW = (
    '    row = np.searchsorted(offsets, answers, side="right")\n    events[answers[{}] + len(markers.answer_ids)] = 1\n'
)

MUTATIONS = {
    "labels are shifted by one token": Mutation(
        "ftcore_sft.labels",
        "return np.where(supervised, flat, IGNORED), *per_row",
        "return np.where(np.roll(supervised, 1), flat, IGNORED), *per_row",
    ),
    "the end of a turn is not learned": Mutation(
        "ftcore_sft.labels",
        "events[np.flatnonzero(flat == markers.end_id) + 1] = -1",
        "events[np.flatnonzero(flat == markers.end_id)] = -1",
    ),
    "answers begin a token late": Mutation(
        "ftcore_sft.labels",
        _ANSWERS_OPEN,
        "    events[(answers + len(markers.answer_ids) + 1).clip(max=len(flat))] = 1\n",
    ),
    "answers begin a token early": Mutation(
        "ftcore_sft.labels", _ANSWERS_OPEN, "    events[answers + len(markers.answer_ids) - 1] = 1\n"
    ),
    "only the last answer is learned": Mutation(
        "ftcore_sft.labels",
        _ANSWERS_OPEN,
        _ONE_OF_EACH_ROW.format("np.append(row[1:] != row[:-1], True)[: len(row)]"),
    ),
    "only the first answer is learned": Mutation(
        "ftcore_sft.labels",
        _ANSWERS_OPEN,
        _ONE_OF_EACH_ROW.format("np.append(True, row[1:] != row[:-1])[: len(row)]"),
    ),
    "questions are learned": Mutation("ftcore_sft.labels", "events[questions] = -1", "events[questions] = 1"),
    "what comes before the first question is learned": Mutation(
        "ftcore_sft.labels",
        "    events[offsets[:-1]] = -1\n",
        "    events[offsets[:-1]] = 1\n",
        "plugins/test_sft_families.py::test_ordinary_rows_are_not_rendered_twice",
    ),
    "the end is not learned where tokens merge": Mutation(
        "ftcore_sft.labels",
        "end + len(markers.end) if end >= 0",
        "end if end >= 0",
        "plugins/test_sft_labels.py::test_a_token_that_swallows_a_markers_end_hides_no_turn",
    ),
    "a quoted marker opens a turn": Mutation(
        "ftcore_sft.labelling",
        "if quoting or not markers.reliable",
        "if not markers.reliable",
        "plugins/test_sft_families.py::test_exactly_the_assistants_turns_are_learned",
    ),
    "a traced answer loses its end": Mutation(
        "ftcore_sft.tracing",
        "(closed + len(markers.end) if closed >= 0 else 0)",
        "0",
        "plugins/test_sft_labels.py::test_labels_are_the_assistants_turns",
    ),
    "what the template leaves unmarked is learned": Mutation(
        "ftcore_sft.labelling",
        "if markers.generation:",
        "if not markers:",
        "plugins/test_sft_families.py::test_where_a_template_marks_other_turns_its_marks_rule",
    ),
    "markers are trusted without a look": Mutation(
        "ftcore_sft.verified",
        "if not all(blank):",
        "if False:",
        "plugins/test_sft_families.py::test_given_markers_that_mark_something_else_are_refused",
    ),
    "BOS is written twice": Mutation(
        "ftcore_sft.labelling",
        "add_special_tokens=False",
        "add_special_tokens=True",
        "plugins/test_sft_families.py::test_exactly_the_assistants_turns_are_learned",
    ),
    "cut answers are not counted": Mutation(
        "ftcore_sft.prepare",
        "tally.lost_tokens, tally.lost_supervised_tokens = int(lost.sum()), int(lost_supervised.sum())",
        "pass",
        "plugins/test_sft_prepare.py::test_cut_examples_and_tokens_are_counted",
    ),
    "cut rows lose their labels' place": Mutation(
        "ftcore_sft.prepare",
        "flat, labels = flat[kept], labels[kept]",
        "flat, labels = flat[kept], labels[: kept.sum()]",
        "plugins/test_sft_labels.py::test_labels_are_the_assistants_turns",
    ),
    "padding is learned": Mutation(
        "ftcore_sft.collate",
        '"labels": _padded(examples, "labels", width, IGNORED)',
        '"labels": _padded(examples, "labels", width, self.pad_token_id)',
        "plugins/test_sft_prepare.py::test_a_batch_is_padded_on_the_right_to_a_multiple_of_eight",
    ),
    "packing moves tokens but not labels": Mutation(
        "ftcore_sft.packing",
        "self._end_to_end(self._labels, places)",
        "self._end_to_end(self._labels, sorted(places))",
        "plugins/test_sft_prepare.py::test_packing_loses_no_token",
    ),
    "packing learns across the border of two examples": Mutation(
        "ftcore_sft.packing",
        "        labels[offsets[:-1][np.diff(offsets) > 0]] = IGNORED\n",
        "",
        "plugins/test_sft_prepare.py::test_packing_loses_no_token",
    ),
    "an end of turn is not made the EOS": Mutation(
        "ftcore.templates.adoption",
        "        tokenizer.eos_token = template.end\n",
        "",
        "test_templates.py::test_the_token_that_ends_a_turn_becomes_the_eos",
    ),
    "a saved template is not compared": Mutation(
        "ftcore.run.reloaded",
        "        if before != after:\n",
        "        if False:\n",
        "test_templates.py::test_a_saved_tokenizer_that_writes_something_else_is_noticed",
    ),
}


class Mutated(SourceFileLoader):
    """Compiles a module's source with the mutation in it."""

    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> Any:
        source = Path(self.path).read_text(encoding="utf-8").replace(self._mutation.old, self._mutation.new)
        return compile(source, self.path, "exec", dont_inherit=True)


class Finder(MetaPathFinder):
    """Finds one module mutated, and leaves all others to the rest of the path."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self._mutation.module:
            return None
        return importlib.util.spec_from_loader(fullname, Mutated(fullname, where(fullname), self._mutation))


class FirstFailure:
    """A pytest plugin that remembers what failed first."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid.partition("[")[0]


def where(module: str) -> str:
    """A module's file, found without importing the module."""
    package, _, name = module.rpartition(".")
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.submodule_search_locations
    return str(Path(next(iter(found.submodule_search_locations))) / f"{name}.py")


def caught_by(mutation: Mutation) -> str:
    """The first test that fails; empty if none does."""
    return failing([mutation.noticed_by], mutation) or failing(CHECKED_BY, mutation)


def failing(tests: Sequence[str], mutation: Mutation | None) -> str:
    """The first of some tests that fails, in a process of its own; empty if none does."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer, Path(os.devnull).open("w") as nowhere:
            failure = ""
            try:
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    failure = _run(tests, mutation)
            except BaseException as error:
                failure = f"({type(error).__name__}: {error})"
            answer.write(json.dumps(failure))
            answer.flush()
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return str(json.loads(text)) if text else "(the tests could not be run)"


def _run(tests: Sequence[str], mutation: Mutation | None) -> str:
    import pytest

    if mutation is not None:
        sys.meta_path.insert(0, Finder(mutation))
    first = FirstFailure()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=sys"]
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    status = pytest.main([*options, *(str(TESTS / name) for name in tests)], plugins=[first])
    return first.name or ("" if status == 0 else f"(pytest ended with {status!s})")


def _prepare() -> None:
    """What takes long to import is imported once, and nothing of ftcore."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main(arguments: list[str]) -> int:
    if arguments == ["--list"]:
        print("\n".join(MUTATIONS))
        return 0
    for name, mutation in MUTATIONS.items():
        count = Path(where(mutation.module)).read_text(encoding="utf-8").count(mutation.old)
        if count != 1:
            print(f"{name}: the piece to replace is {count} times in {mutation.module}")
            return 2
    _prepare()
    chosen = arguments or list(MUTATIONS)
    if broken := failing(sorted({MUTATIONS[name].noticed_by for name in chosen}), None):
        print(f"nothing is mutated, and {broken} fails")
        return 2
    survived = 0
    for name in chosen:
        caught = caught_by(MUTATIONS[name])
        survived += not caught
        print(f"{'caught  ' if caught else 'SURVIVED'}  {name}{f': {caught}' if caught else ''}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
