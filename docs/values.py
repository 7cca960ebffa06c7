"""The values of a configuration in words: types, ranges, defaults."""

from __future__ import annotations

import json
from typing import Any


def toml(value: Any) -> str:
    if value is None:
        return '"null"'
    if isinstance(value, dict) and value:
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def takes(rule: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The type and range of a value in words."""
    if "$ref" in rule:
        return takes(definitions[rule["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in rule:
        options: list[str] = [takes(option, definitions) for option in rule["anyOf"]]
        if any(option.startswith("number") for option in options):
            options = [option for option in options if not option.startswith("integer")]
        return " or ".join(dict.fromkeys(options)) + _range(rule)
    if "enum" in rule or "const" in rule:
        return " or ".join(f"`{toml(value)}`" for value in rule.get("enum", [rule.get("const")]))
    match rule.get("type"):
        case "null":
            return '`"null"`'
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number":
            return f"{rule['type']}{_range(rule)}"
        case "array":
            items = takes(rule.get("items", {}), definitions)
            return f"list of {items}" if " or " not in items else f"list of ({items})"
        case "object":
            inner = rule.get("additionalProperties")
            return f"table of {takes(inner, definitions)}" if isinstance(inner, dict) and inner else "table"
        case "string":
            return "path" if rule.get("format") == "path" else "text"
    return "any value"


def _range(rule: dict[str, Any]) -> str:
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    low, high, above, below = (_plain(rule.get(name)) for name in names)
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    words = [f"at least {low:,}"] if low is not None else [f"more than {above:,}"] if above is not None else []
    words += [f"at most {high:,}"] if high is not None else [f"less than {below:,}"] if below is not None else []
    return f", {' and '.join(words)}" if words else ""


def _plain(limit: float | None) -> float | None:
    """Without a fraction of zero: of the limit 0 of a `float`, some releases of pydantic say 0.0."""
    return int(limit) if limit is not None and limit == int(limit) else limit
