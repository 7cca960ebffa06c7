"""What every section of a configuration has in common: strict, immutable, documented, "null" understood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, cast

import tomli
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

ViewT = TypeVar("ViewT", bound="Section")


class RawText(str):
    """A value that arrived as text (from the environment or `--set`) and takes the type of its field."""


class Section(BaseModel):
    """Base of all sections, also of the plugins' own.

    Types are strict: `epochs = "30"` is an error, not 30; what TOML has no type for (a `Path`, a tuple, an enum) is read
    from a text or a list. A field whose type admits None takes `"null"` for it.
    Document each field with a docstring under it; the docstrings become the configuration reference and the schema.
    """

    model_config = ConfigDict(
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        validate_default=False,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    may_change: ClassVar[frozenset[str]] = frozenset()
    """The keys that may have another value when a run goes on from a checkpoint: what is learned does not depend on
    them. A difference in any other key stops `ftcore run --resume`, until `--accept-changes` is given."""

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Today's name of each key that had another one. The old name is read in files and behind `--set`, with a warning."""

    @classmethod
    def renames(cls) -> dict[str, str]:
        """`renamed_keys` of this section and of the sections that it is composed of."""
        return {old: new for base in reversed(cls.__mro__) for old, new in vars(base).get("renamed_keys", {}).items()}

    @classmethod
    def changeable(cls) -> frozenset[str]:
        """`may_change` of this section and of the sections that it is composed of."""
        return frozenset().union(*(vars(base).get("may_change", ()) for base in cls.__mro__))

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a table as the fields want them, unknown keys and wrong values left as they are."""
        fields = cls.model_fields
        return {key: _typed(fields[key], value) if key in fields else value for key, value in table.items()}

    @model_validator(mode="before")
    @classmethod
    def _read_table(cls, data: Any) -> Any:
        return cls.read(data) if isinstance(data, dict) else data

    def view(self, section: type[ViewT]) -> ViewT:
        """The part of these settings that `section` describes, keeping what was set and what was defaulted."""
        values: dict[str, Any] = {name: getattr(self, name) for name in section.model_fields}
        return cast(ViewT, section.model_construct(_fields_set=self.model_fields_set & values.keys(), **values))


def _typed(field: FieldInfo, value: Any) -> Any:
    """The value as the field wants it: "null" is None where None is allowed, raw text takes the field's type."""
    if not isinstance(value, str | list | dict):
        return value
    if value == "null" and admits_none(field):
        return None
    return _from_text(field, value) if isinstance(value, RawText) else _from_toml(field, value)


def _from_text(field: FieldInfo, text: RawText) -> Any:
    as_toml = _toml_value(text)
    if isinstance(as_toml, list | dict) and _fits(field, as_toml):
        return _from_toml(field, as_toml)  # before a field that takes a text or a list takes it for a text
    try:
        return _adapter(field).validate_python(str(text), strict=False)
    except ValidationError:
        return str(text) if as_toml is None else as_toml


def _toml_value(text: str) -> Any:
    try:
        return tomli.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return None


def _from_toml(field: FieldInfo, value: Any) -> Any:
    """The value itself, or what it stands for where TOML has no such type; a wrong value is left as it is."""
    adapter = _adapter(field)
    try:
        adapter.validate_python(value, strict=True)
        return value
    except ValidationError:
        pass
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError):  # a TypeError: TOML's dates, which no JSON has
        return value


def _fits(field: FieldInfo, value: Any) -> bool:
    try:
        _adapter(field).validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError):
        return False
    return True


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    return TypeAdapter(field.rebuild_annotation())


def admits_none(field: FieldInfo) -> bool:
    """Whether None is one of the field's values."""
    try:
        _adapter(field).validate_python(None)
    except ValidationError:
        return False
    return True
