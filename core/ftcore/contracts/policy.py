"""What an organisation says of every configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Policy:
    """What an organisation gives to every configuration, and what nobody may change.

    A value that the user's file, a file that it extends, or `--set` gives wins over the policy's, unless it is locked.

    Attributes:
        values: by section and key, as a configuration file would have them: `{"mlflow": {"tracking_uri": "https://…"}}`.
            Texts may have `${NAME}` in them, and None is "null". Tables are merged key by key, lists replaced.
            Sections of plugins that are not installed are left out.
        locked: the keys that have the policy's value and no other, as `section.key`, each with the reason, which the user
            is told. Each has a value above.
        reason: why the other values are what they are, for `ftcore check`; may be empty.

    Raises:
        ValueError: a locked key has no value.
    """

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def __post_init__(self) -> None:
        for where in self.locked:
            inner: Any = self.values
            for part in where.split("."):
                if not isinstance(inner, Mapping) or part not in inner:
                    raise ValueError(f"{where} is locked and has no value in the policy")
                inner = inner[part]
            if "." not in where:
                raise ValueError(f"{where} is locked, and a policy locks keys, not whole sections")
