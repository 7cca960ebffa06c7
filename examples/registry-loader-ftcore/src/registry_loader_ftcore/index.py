"""What a registry says of its models: `index.json`.

    {"models": {"assistant": {
        "stages": {"production": "6", "staging": "7"},
        "versions": {"7": {"files": {"config.json": {"sha256": "…", "bytes": 612}, …}}}}}}

Replace this module to read the index of another registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ftcore.errors import ModelError


def _inside(name: str) -> str:
    # The index comes over a network: it must not name files outside of the model's folder.
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("a file's name is a path inside the model's folder")
    return name


class File(BaseModel):
    """What a file of a model has to be."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Version(BaseModel):
    """The files of one version, by their paths in the model's folder."""

    files: Annotated[dict[Annotated[str, AfterValidator(_inside)], File], Field(min_length=1)]


class Model(BaseModel):
    """A model's versions, and which of them each stage stands for."""

    stages: dict[str, str] = {}
    versions: dict[str, Version]


class Index(BaseModel):
    """The models by name."""

    models: dict[str, Model]


@dataclass(frozen=True)
class Found:
    """One version of a model.

    Attributes:
        model, version: their names in the registry.
        files: by their paths in the model's folder.
    """

    model: str
    version: str
    files: Mapping[str, File]

    @property
    def digest(self) -> str:
        """What the files are, in 12 hexadecimal digits."""
        lines = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def parse(text: bytes, place: str) -> Index:
    """The index in a file.

    Raises:
        ModelError: it is none.
    """
    try:
        return Index.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise ModelError(f"the registry's index {place} cannot be read", why=why, fix="Tell who runs it") from None


def find(index: Index, wanted: str, default_stage: str) -> Found:
    """The version that `name`, `name@stage` or `name@version` means.

    Raises:
        ModelError: there is none.
    """
    name, _, label = wanted.partition("@")
    model = index.models.get(name)
    if model is None:
        close = get_close_matches(name, index.models, n=1)
        raise ModelError(
            f'the registry has no model "{name}"',
            why=f"it has {', '.join(sorted(index.models)) or 'none'}",
            fix=f'Did you mean "{close[0]}"?' if close else "Name one of these",
        )
    version = model.stages.get(label or default_stage, label or default_stage)
    if version not in model.versions:
        labels = [*sorted(model.stages), *model.versions]
        raise ModelError(
            f'the registry has no "{name}@{label or default_stage}"',
            why=f"{name} has {', '.join(labels) or 'no version'}",
            fix="Name one of these behind the @",
        )
    return Found(name, version, model.versions[version].files)
