"""The JSON Schema of a configuration file, for editors (draft 2020-12)."""

from __future__ import annotations

from typing import Any

from ftcore.config import CORE_SECTIONS, policy, renamed
from ftcore.config.extends import KEY
from ftcore.errors import FtcoreError
from ftcore.plugins import Plugins
from ftcore.settings.base import Section

_EXTENDS = {
    "description": "The configurations that this one is built on: TOML files, relative to this one, or `plugin:name`. What "
    "this file says wins, and of a list the later ones over the earlier ones.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}},
    ],
}
_REFERENCE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}


def config_schema(plugins: Plugins) -> dict[str, Any]:
    """The schema of all sections: ftcore's own and those of the installed plugins."""
    sections = {name: _or_any_table(model) for name, model in (CORE_SECTIONS | plugins.sections).items()}
    required = _required(sections, plugins)
    _suggest_plugins(sections, plugins)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ftcore configuration",
        "type": "object",
        "properties": {KEY: _EXTENDS, **sections},
        "if": {"not": {"required": [KEY]}},
        "then": {"required": ["fine_tuner"], "properties": required},
        "additionalProperties": False,
    }


def _required(sections: dict[str, dict[str, Any]], plugins: Plugins) -> dict[str, Any]:
    """Takes the required keys out of the sections: a file that another one extends, or a policy, may have them."""
    try:
        given = {ruling.where for ruling in policy.gather(plugins, CORE_SECTIONS | plugins.sections, {}, [])}
    except FtcoreError:  # whoever reads a configuration is told
        given = set()
    keys = {
        name: [key for key in table.pop("required", ()) if f"{name}.{key}" not in given]
        for name, table in sections.items()
    }
    return {name: {"required": needed} for name, needed in keys.items() if needed}


_CHOSEN_BY = {
    ("stages", "loader"): ("loader", "auto"),
    ("stages", "formatter"): ("formatter", "auto"),
    ("stages", "trainer"): ("trainer",),
    ("stages", "launcher"): ("launcher",),
    ("fine_tuner", "report_to"): ("reporter", "none"),
}
"""By key: the stage whose plugins it chooses among, and what else it may say."""


def _suggest_plugins(sections: dict[str, dict[str, Any]], plugins: Plugins) -> None:
    """Lets editors complete the names of installed plugins; others stay allowed, for other machines."""
    for (section, key), (stage, *others) in _CHOSEN_BY.items():
        field = sections[section]["properties"][key]
        about = {name: value for name, value in field.items() if name in _ABOUT}
        rule = {name: value for name, value in field.items() if name not in _ABOUT}
        names = {"enum": [*others, *plugins.serving(stage)]}
        sections[section]["properties"][key] = _choice(about, [names, *rule.get("anyOf", [rule])])


def _or_any_table(model: type[Section]) -> dict[str, Any]:
    try:
        return section_schema(model)
    except RecursionError:  # a plugin's settings that contain themselves cannot be written out
        return {"type": "object", "description": model.__doc__ or ""}


def section_schema(model: type[Section]) -> dict[str, Any]:
    """The schema of one section as TOML writes it: null is the text "null", and any value may be `${NAME}`."""
    raw = model.model_json_schema()
    definitions = raw.pop("$defs", {})
    schema: dict[str, Any] = _inline(raw, definitions)
    properties = {key: _as_toml(value) for key, value in schema.get("properties", {}).items()}
    schema["properties"] = properties | renamed.as_properties(model, properties)
    return schema


def _inline(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inline(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target = definitions[value["$ref"].rpartition("/")[2]]
        return _inline({**target, **{key: item for key, item in value.items() if key != "$ref"}}, definitions)
    return {key: _inline(item, definitions) for key, item in value.items()}


_ABOUT = ("title", "description", "default", "examples", "deprecated")
_NO_TEXT = ("integer", "number", "boolean", "array", "object")
_NULL = {"const": "null"}


def _as_toml(field: dict[str, Any]) -> dict[str, Any]:
    about = {key: value for key, value in field.items() if key in _ABOUT}
    if "default" in about and about["default"] is None:
        about["default"] = "null"
    rule = {key: value for key, value in field.items() if key not in _ABOUT}
    options = rule["anyOf"] if rule.keys() == {"anyOf"} else [rule]
    options = [_NULL if option == {"type": "null"} else option for option in options]
    if any(_takes_any_text(option) for option in options):
        options = [option for option in options if option != _NULL]
    elif len(options) == 1 and rule.get("type") in _NO_TEXT:
        # taplo offers a key once for each option of anyOf; a pattern says nothing about what is no text.
        return {**about, **rule, "type": [rule["type"], "string"], "pattern": _REFERENCE["pattern"]}
    elif rule:
        options = [*options, _REFERENCE]
    if len(options) == 1:
        return {**about, **options[0]}
    return _choice(about, options)


def _choice(about: dict[str, Any], options: list[dict[str, Any]]) -> dict[str, Any]:
    # Behind a key that it completes, taplo shows what the first option says about itself, and above a key that is
    # there what all of them and the field say: so it is not shown what the field says.
    told = ("description", "default")
    first = {key: value for key, value in about.items() if key in told}
    rest = [{key: value for key, value in option.items() if key not in told} for option in options]
    return {**about, "x-taplo": {"docs": {"main": ""}}, "anyOf": [{**rest[0], **first}, *rest[1:]]}


def _takes_any_text(option: dict[str, Any]) -> bool:
    """Whether `${A}` and "null" are among its texts, so that they need not be allowed for."""
    return (
        option.get("type") == "string"
        and option.keys() <= {"type", "minLength", "maxLength"}
        and (option.get("minLength", 0) <= len("${A}") and option.get("maxLength", 4096) >= 4096)
    )
