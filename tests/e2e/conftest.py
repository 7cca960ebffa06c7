"""What the end-to-end tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model in Llama's architecture, and its tokenizer."""
    pytest.importorskip("transformers")
    from ftcore.testing.models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model in Qwen2's architecture, whose attention has biases."""
    pytest.importorskip("transformers")
    from ftcore.testing.models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-qwen2", "qwen2")
