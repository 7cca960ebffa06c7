"""Rules for a plugin's own section of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from ftcore import secrets
from ftcore.settings.base import Section
from ftcore.testing.conformance.rule import rule
from ftcore.testing.conformance.subject import Subject


@rule(
    "plugin-settings-strict",
    hooks=("ftcore_settings",),
    why='a misspelt key, or "30" for 30, would be taken or left out in silence',
    fix="leave `model_config` as ftcore.settings.base.Section has it",
)
def strict(subject: Subject) -> Iterator[str]:
    """Its settings refuse unknown keys and wrong types, and cannot be changed."""
    wanted = {"extra": "forbid", "strict": True, "frozen": True, "hide_input_in_errors": True}
    for model in _models(subject):
        for key, value in wanted.items():
            if model.model_config.get(key) != value:
                yield f"{model.__name__}: {key} is {model.model_config.get(key)!r} and should be {value!r}"


@rule(
    "plugin-settings-documented",
    hooks=("ftcore_settings",),
    why="the reference, the schema and editors show what stands under a field, and nothing else",
    fix="put a docstring under each field: what it does, its unit, what null means",
)
def documented(subject: Subject) -> Iterator[str]:
    """Every key of its section is documented."""
    for model in _models(subject):
        for name, field in model.model_fields.items():
            if not (field.description or "").strip():
                yield f"{model.__name__}.{name} has no docstring"


@rule(
    "plugin-settings-secrets",
    hooks=("ftcore_settings",),
    why="a configuration is shared, shown and kept with the run; a secret in it is shared, too",
    fix="read it from an environment variable, name the variable in the settings (`token_env`), or type it SecretStr",
)
def no_secrets(subject: Subject) -> Iterator[str]:
    """No key that is named like a secret is a plain text."""
    for model in _models(subject):
        for name, field in model.model_fields.items():
            if secrets.is_secret_key(field.alias or name) and not _is_secret(field):
                yield f"{model.__name__}.{name} is named like a secret and is a plain {_short(field)}"


def _models(subject: Subject) -> list[type[Section]]:
    """The plugin's section, and the sections inside it."""
    model = subject.record.settings
    assert model is not None, "the rule is for plugins with settings"
    found: list[type[Section]] = []
    waiting: list[type[Section]] = [model]
    while waiting:
        each = waiting.pop(0)
        if each not in found:
            found.append(each)
            waiting += [part for field in each.model_fields.values() for part in _sections(field.annotation)]
    return found


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _is_secret(field: FieldInfo) -> bool:
    return any(
        isinstance(part, type) and issubclass(part, Secret | SecretStr | SecretBytes)
        for part in _types(field.annotation)
    )


def _types(annotation: Any) -> Iterator[Any]:
    yield getattr(annotation, "__origin__", annotation)
    for part in get_args(annotation):
        yield from _types(part)


def _short(field: FieldInfo) -> str:
    return getattr(field.annotation, "__name__", None) or str(field.annotation)
