"""The JSON Schema of the configuration: valid itself, and neither narrower nor wider than what ftcore reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import jsonschema
import pytest
import tomli

from ftcore.schema import config_schema

PROJECT = Path(__file__).parent.parent
EXAMPLES = sorted(
    path for path in (PROJECT / "examples").rglob("*.toml")
    if path.name != "pyproject.toml" and "[fine_tuner]" in path.read_text(encoding="utf-8")
)  # fmt: skip
SPEC = PROJECT.parent / "shared" / "spec" / "fine-tuner-configuration.md"


@pytest.fixture(scope="module")
def schema(plugins: Any) -> dict[str, Any]:
    return config_schema(plugins)


def errors(schema: dict[str, Any], values: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(values)]


def without_required(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "then": {}}


def test_it_is_valid_against_the_metaschema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_command_prints_it(ftcore: Any, schema: dict[str, Any]) -> None:
    outcome = ftcore("schema")
    assert outcome.code == 0
    assert json.loads(outcome.out) == schema


def test_every_section_and_key_is_in_it_with_its_description(schema: dict[str, Any], plugins: Any) -> None:
    from ftcore.config import CORE_SECTIONS

    models = CORE_SECTIONS | plugins.sections
    assert schema["properties"].keys() == {"extends", *models}
    for name, model in models.items():
        properties = schema["properties"][name]["properties"]
        assert properties.keys() == model.model_fields.keys()
        assert all(value["description"] for value in properties.values()), name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_example_validates(schema: dict[str, Any], path: Path) -> None:
    values = tomli.loads(path.read_text(encoding="utf-8"))
    # A section of a plugin that is not installed here cannot be described here.
    values = {name: table for name, table in values.items() if name in schema["properties"]}
    assert errors(schema, values) == []


def spec_blocks() -> list[str]:
    if not SPEC.exists():
        return []
    text = SPEC.read_text(encoding="utf-8")
    return [dedent(block) for block in re.findall(r"^ *```toml\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)]


@pytest.mark.skipif(not SPEC.exists(), reason="the specification does not lie beside this checkout")
def test_every_block_of_the_specification_validates_and_is_read(schema: dict[str, Any], load: Any) -> None:
    blocks = spec_blocks()
    assert len(blocks) > 15
    for block in blocks:
        values = tomli.loads(block)
        assert errors(without_required(schema), values) == [], block
        own = values.get("fine_tuner", {})
        missing = "".join(
            f'{key} = "x"\n' for key in ("base_model_id", "training_data_id") if key not in own
        )  # fmt: skip
        whole = block if "[fine_tuner]" in block else f"{block}\n[fine_tuner]\n"
        config = load(whole.replace("[fine_tuner]\n", f"[fine_tuner]\n{missing}", 1), whole=True)
        for key, value in own.items():
            assert getattr(config.fine_tuner, key) == (None if value == "null" else value), key


GOOD = [
    {},
    {"rank": "${RANK}"},
    {"packing": "${PACKING:-true}"},
    {"dtype": "null"},
    {"report_to": ["mlflow", "wandb"]},
    {"target_modules": "all-linear"},
    {"epochs": 0.5},
    {"loftq_config": {"loftq_bits": 4}},
    {"learning_rate": 1},
]
BAD = [
    {"rnak": 8},
    {"rank": "8"},
    {"rank": 0},
    {"lora_alpha": 0},
    {"epochs": 0},
    {"epochs": 100_001},
    {"rank": "null"},
    {"packing": "true"},
    {"dtype": "fp16"},
    {"report_to": []},
    {"report_to": 3},
    {"lora_dropout": 1},
    {"target_modules": [3]},
    {"use_gradient_checkpointing": "yes"},
    {"loftq_config": "x"},
]
REQUIRED = {"base_model_id": "m", "training_data_id": "d"}


@pytest.mark.parametrize("table", GOOD, ids=str)
def test_it_takes_what_ftcore_reads(schema: dict[str, Any], table: dict[str, Any]) -> None:
    assert errors(schema, {"fine_tuner": REQUIRED | table}) == []


@pytest.mark.parametrize("table", BAD, ids=str)
def test_it_refuses_what_ftcore_refuses(schema: dict[str, Any], table: dict[str, Any]) -> None:
    from ftcore.settings.fine_tuner import FineTunerSettings

    assert errors(schema, {"fine_tuner": REQUIRED | table})
    with pytest.raises(ValueError):
        FineTunerSettings.model_validate(REQUIRED | table)


@pytest.mark.parametrize(
    "values",
    [{}, {"fine_tuner": {}}, {"fine_tuner": REQUIRED, "runn": {}}, {"fine_tuner": REQUIRED, "mlflow": {"uri": "x"}}],
    ids=str,
)
def test_it_refuses_missing_and_unknown_sections_and_keys(schema: dict[str, Any], values: dict[str, Any]) -> None:
    assert errors(schema, values)


@pytest.mark.parametrize("extends", ["base.toml", "acme:defaults", ["a.toml", "b.toml"]], ids=str)
def test_what_is_required_may_stand_in_a_file_that_is_extended(schema: dict[str, Any], extends: object) -> None:
    assert errors(schema, {"extends": extends, "run": {"name": "x"}}) == []
    assert errors(schema, {"extends": extends, "fine_tuner": {"rank": 8}}) == []
    assert errors(schema, {"extends": extends, "fine_tuner": {"rank": 0}})
    assert errors(schema, {"extends": 3, "fine_tuner": REQUIRED})
    assert errors(schema, {"extends": "", "fine_tuner": REQUIRED})


def test_what_a_policy_gives_is_not_required(install: Any) -> None:
    from ftcore.plugins import discover

    source = (
        "from ftcore import hookimpl\nfrom ftcore.contracts import Policy\n"
        "@hookimpl\ndef ftcore_policy(): return Policy({'fine_tuner': {'base_model_id': 'm'}})\n"
    )
    install("acme", {"acme_gives": source}, {"acme": "acme_gives"})
    schema = config_schema(discover())
    assert errors(schema, {"fine_tuner": {"training_data_id": "d"}}) == []
    assert errors(schema, {"fine_tuner": {"base_model_id": "m"}}) == ["'training_data_id' is a required property"]


def test_it_has_the_sections_of_installed_plugins(install: Any) -> None:
    from ftcore.plugins import discover

    source = (
        "from ftcore import hookimpl\nfrom ftcore.settings import Section\n"
        "class Inner(Section):\n    deep: int = 0\n    'Deep.'\n"
        "class S(Section):\n    'Doc.'\n    inner: Inner = Inner()\n    'Inside.'\n    many: list[Inner] = []\n    'More.'\n"
        "class Loop(Section):\n    'Loops.'\n    again: 'Loop | None' = None\n    'Again.'\n"
        "@hookimpl\ndef ftcore_settings(): return S\n"
    )
    loop = source.replace("return S\n", "return Loop\n")
    install("acme", {"acme_schema": source, "acme_loop": loop}, {"acme": "acme_schema", "loop": "acme_loop"})
    schema = config_schema(discover())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert errors(schema, {"fine_tuner": REQUIRED, "acme": {"inner": {"deep": 1}, "many": [{"deep": 2}]}}) == []
    assert errors(schema, {"fine_tuner": REQUIRED, "acme": {"inner": {"deep": "x"}}})
    assert errors(schema, {"fine_tuner": REQUIRED, "loop": {"again": {"again": {}}}}) == []
