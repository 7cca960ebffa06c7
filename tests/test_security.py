"""What `docs/security.md` promises, where it can be shown without training."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcore.errors import ConfigError, FtcoreError
from ftcore.run.runs import validate_name

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Every call in core and plugins, with what is called, as far as that is a plain name: `torch.load`."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(ROOT), node, ast.unparse(node.func)


TRIES_PICKLING = Path("core/ftcore/testing/conformance/rules/formatter.py")
"""A rule for plugins under test: it reads what a process wrote that it has started itself a moment before."""


def test_nothing_pickled_is_loaded_but_weights() -> None:
    seen = []
    for path, call, name in calls():
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            seen.append(path)
            assert options.get("weights_only") == "True", f"{path}:{call.lineno}"
        assert path == TRIES_PICKLING or name not in {
            "pickle.load",
            "pickle.loads",
            "pickle.Unpickler",
            "joblib.load",
            "dill.load",
            "dill.loads",
        }, f"{path}:{call.lineno}"
        if name in {"np.load", "numpy.load"}:
            assert options.get("allow_pickle", "False") == "False", f"{path}:{call.lineno}"
        assert name not in {"eval", "exec", "os.system", "yaml.load"}, f"{path}:{call.lineno}"
        assert options.get("shell", "False") == "False", f"{path}:{call.lineno}"
        assert options.get("safe_serialization", "True") == "True", f"{path}:{call.lineno}"
    assert seen, "old weights in PyTorch's own format can be read"


def test_code_of_a_model_runs_only_where_the_configuration_says_so(load: Any) -> None:
    assert load("load_in_4bit = false\n").fine_tuner.trust_remote_code is False
    for path, call, name in calls():
        for keyword in call.keywords:
            if keyword.arg == "trust_remote_code":
                assert ast.unparse(keyword.value).endswith(".trust_remote_code"), f"{path}:{call.lineno} {name}"


@pytest.mark.parametrize("trusted", [False, True])
def test_a_model_with_code_of_its_own(tmp_path: Path, trusted: bool) -> None:
    """Its code runs where the configuration asks for it, which is said; elsewhere it is an error that says how."""
    pytest.importorskip("transformers")
    from datetime import UTC, datetime

    from ftcore.config import load
    from ftcore.plugins import discover
    from ftcore.plugins.selection import choices
    from ftcore.run import runs
    from ftcore.run.stages import Stages

    folder, ran = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            {"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.Odd"}}
        )
    )
    (folder / "odd.py").write_text(
        "from pathlib import Path\nfrom transformers import PretrainedConfig\n"
        f"Path({str(ran)!r}).write_text('the code of the model ran')\n"
        "class OddConfig(PretrainedConfig):\n    model_type = 'odd'\n"
    )
    from ftcore.testing.models import tiny_tokenizer

    tiny_tokenizer().save_pretrained(str(folder))
    config = tmp_path / "config.toml"
    config.write_text(
        f'[fine_tuner]\nbase_model_id = "{folder}"\ntraining_data_id = "d.jsonl"\n'
        + f"load_in_4bit = false\ntrust_remote_code = {str(trusted).lower()}\n[stages]\nloader = 'transformers'\n"
        + f'[run]\noutput_dir = "{tmp_path / "runs"}"\n'
    )
    plugins = discover(disabled=())
    settings = load(config, plugins)
    selected = choices(settings, plugins)
    run = runs.create(settings, plugins, selected, "r", datetime(2026, 11, 23, tzinfo=UTC))
    loader = Stages(settings, plugins, selected).loader(run)
    with pytest.raises(FtcoreError) as caught:
        loader.tokenizer()
        loader.model()
    run.close()
    log = (run.dir / "run.log").read_text()
    assert ran.exists() is trusted
    assert ("trust_remote_code is on: Python code that comes with" in log) is trusted
    if not trusted:
        assert "trust_remote_code" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc", "..\\x", "a\x00b", "a..b", "~root", "-rf", "a\nb", "x" * 97, "a.git", "ä"]
)
def test_a_run_s_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be named"):
        validate_name(name, "by a test")


@pytest.mark.parametrize("name", ["../../escape", "/tmp/escape", "a/../../escape"])
def test_a_plugin_cannot_name_a_run_out_of_its_folder(load: Any, plugins: Any, name: str) -> None:
    from datetime import UTC, datetime

    from ftcore.plugins.selection import choices
    from ftcore.run.stages import Stages

    class Namer:
        """A plugin manager that gives a bad name."""

        def implementing(self, hook: str) -> list[str]:
            return ["acme"]

        def call(self, hook: str, plugin: str, **arguments: Any) -> str:
            return name

    config = load("load_in_4bit = false\n")
    stages = Stages(config, Namer(), choices(config, plugins))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be named"):
        stages.run_name(datetime(2026, 11, 23, tzinfo=UTC))


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "..", "135m-instruct/../../x", ""])
def test_a_model_s_locator_names_a_model_and_no_path(plugins: Any, path: str) -> None:
    from ftcore import locators

    with pytest.raises(FtcoreError):
        plugins.call("ftcore_resolve_model", "smollm2", locator=locators.parse(f"smollm2:{path}"), settings=None)


def test_data_in_a_model_card_are_text() -> None:
    from ftcore.run.card import CardFacts, render

    hostile = "</p><script>alert(1)</script>|\n# heading <img src=x onerror=alert(1)>"
    card = render(
        CardFacts(
            "r", "acme/base", "adapter", hostile, hostile, {hostile: hostile}, {"k": hostile}, {}, {}, [(hostile,) * 3]
        )
    )
    assert "<script" not in card
    assert "<img" not in card
    assert "\n# heading" not in card
