"""What every section of a configuration has in common: strict, immutable, documented, "null" understood."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import tomli
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

ViewT = TypeVar("ViewT", bound="Section")


class RawText(str):
    """A value that arrived as text (from the environment or `--set`) and takes the type of its field."""


class Section(BaseModel):
    """Base of all sections, also of the plugins' own.

    Types are strict: `epochs = "30"` is an error, not 30. A field whose type admits None takes `"null"` for it.
    Document each field with a docstring under it; the docstrings become the configuration reference and the schema.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        validate_default=False,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: _typed(cls.model_fields.get(key), value) for key, value in data.items()}

    def view(self, section: type[ViewT]) -> ViewT:
        """The part of these settings that `section` describes, keeping what was set and what was defaulted."""
        values: dict[str, Any] = {name: getattr(self, name) for name in section.model_fields}
        return cast(ViewT, section.model_construct(_fields_set=self.model_fields_set & values.keys(), **values))


def _typed(field: FieldInfo | None, value: Any) -> Any:
    """The value as the field wants it: "null" is None where None is allowed, raw text takes the field's type."""
    if field is None or not isinstance(value, str):
        return value
    if value == "null" and admits_none(field):
        return None
    return _from_text(field, value) if isinstance(value, RawText) else value


def _from_text(field: FieldInfo, text: RawText) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    try:
        return adapter.validate_python(str(text), strict=False)
    except ValidationError:
        pass
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return str(text)


def admits_none(field: FieldInfo) -> bool:
    """Whether None is one of the field's values."""
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    try:
        adapter.validate_python(None)
    except ValidationError:
        return False
    return True
