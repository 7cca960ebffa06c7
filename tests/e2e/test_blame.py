"""Whoever is at fault is named: a plugin that does not do its part, not the one that notices."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("transformers")

FROZEN = """
from ftcore import hookimpl

class Frozen:
    def __init__(self, source):
        self.source = source

    def tokenizer(self):
        from transformers import AutoTokenizer
        return AutoTokenizer.from_pretrained(self.source)

    def model(self):
        from transformers import AutoModelForCausalLM
        return AutoModelForCausalLM.from_pretrained(self.source).requires_grad_(False).train()

@hookimpl
def ftcore_make_loader(source):
    return Frozen(source)
"""


def test_a_model_on_which_nothing_can_be_trained_is_its_loaders_fault(install: Any, ftcore_project: Any) -> None:
    install("acme", {"acme_frozen": FROZEN}, {"acme": "acme_frozen"})
    ftcore_project.config({"stages": {"loader": "acme"}, "run": {"name": "r"}})
    outcome = ftcore_project.ftcore("run", "config.toml")
    assert outcome.exit_code == 3
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(
        "error: plugin 'acme' (acme 1.2.3) broke its contract: its model has nothing that could be trained: all "
    )
    assert line.endswith(
        " parameters are frozen, and Loader.model must add an adapter or leave the weights trainable. "
        "Report it to its authors, or choose another plugin"
    )
    (run,) = ftcore_project.runs()
    assert run.manifest["status"] == "failed"
    assert not (run.path / "checkpoints").exists()
