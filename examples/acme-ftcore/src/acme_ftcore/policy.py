"""The organisation's policy: what every run at Acme begins with, and what none may do.

It is a TOML file that the platform team keeps, and the variable ACME_POLICY says where. They set it in the images that
everybody works in, so that a new rule needs no new release of this package; without it there is no policy.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ValidationError

from ftcore.contracts import Policy
from ftcore.errors import ConfigError, Problem
from ftcore.settings import Section

if TYPE_CHECKING:
    from ftcore.config import Config

VARIABLE = "ACME_POLICY"


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


class House(Section):
    """The policy's file. What it does not say is not ruled."""

    reason: str = ""
    """Why the values are what they are, for whoever meets them."""

    values: dict[str, dict[str, Any]] = {}
    """Defaults for everybody, by section and key, as in a configuration."""

    locked: dict[str, str] = {}
    """Those of them that nobody may change, as `section.key`, each with the reason."""

    models: tuple[str, ...] = ("*",)
    """The base models that may be trained, `*` standing for anything."""

    data: tuple[str, ...] = ("*",)
    """The ids of data that are registered, `*` standing for anything."""

    run_name: Annotated[str, AfterValidator(_is_pattern)] = ".*"
    """The pattern that a run's whole name has, prefix and suffix included."""


def house() -> House | None:
    """The policy, if there is one.

    Raises:
        ConfigError: the file cannot be read. A policy with a mistake in it stops everybody, rather than nobody.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return None

    try:
        return House.model_validate(tomllib.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        why = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:  # no UTF-8, no TOML
        why = str(error)
    raise ConfigError(f"Acme's policy {name} cannot be read", why=why, fix="Tell the platform team") from None


def policy() -> Policy:
    """The defaults and the locks; without a file there are none, and the rules below are asked all the same."""
    rules = house() or House()
    try:
        return Policy(rules.values, rules.locked, rules.reason)
    except ValueError as error:
        raise ConfigError(f"Acme's policy locks what it does not set: {error}", fix="Tell the platform team") from None


def broken_rules(config: Config) -> Iterator[Problem]:
    """The models and data of a configuration that the policy does not allow."""
    rules = house() or House()
    settings = config.fine_tuner
    if not _listed(settings.base_model_id, rules.models):
        message = f'the base model "{settings.base_model_id}" is not allowed at Acme'
        yield Problem("fine_tuner.base_model_id", message, f"Choose one of {', '.join(rules.models)}")
    for key in ("training_data_id", "validation_data_id"):
        data_id = getattr(settings, key)
        if data_id is not None and not _listed(data_id, rules.data):
            message = f'the data "{data_id}" are not registered at Acme'
            yield Problem(f"fine_tuner.{key}", message, "Register them, or use acme:tickets")


def broken_convention(run_name: str) -> Iterator[Problem]:
    """A name of a run that is not as the policy wants it."""
    pattern = (house() or House()).run_name
    if not re.fullmatch(pattern, run_name):
        message = f'runs at Acme are named like {pattern}, and this one would be "{run_name}"'
        yield Problem("run.name", message, "Set [run] name, or name_prefix")


def base_config(name: str) -> Path:
    """The file behind `extends = "acme:<name>"`.

    Raises:
        ConfigError: there is none of that name.
    """
    files = {path.stem: path for path in (Path(__file__).parent / "configs").glob("*.toml")}
    if name not in files:
        raise ConfigError(f'there is no configuration "acme:{name}"', fix=f"There is {', '.join(sorted(files))}")
    return files[name]


def _listed(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
