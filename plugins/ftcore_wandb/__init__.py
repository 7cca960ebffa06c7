"""Reports runs to Weights & Biases, online or into files that `wandb sync` sends later."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ftcore import hookimpl
from ftcore.contracts import Reporter, Run
from ftcore.errors import Problem
from ftcore.settings.base import Section

if TYPE_CHECKING:
    from ftcore.config import Config


class WandbSettings(Section):
    """The `[wandb]` section."""

    project: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The project that the run belongs to. Null takes the variable `WANDB_PROJECT`, or `ftcore`."""

    entity: Annotated[str, Field(min_length=1)] | None = None
    """The user or team that owns the project. Null takes the variable `WANDB_ENTITY`, or the account's default."""

    mode: Literal["online", "offline"] | None = None
    """`online` sends as the run goes on; `offline` writes files that `wandb sync` sends later. Null takes the variable `WANDB_MODE`, or `online`."""

    group: Annotated[str, Field(min_length=1)] | None = None
    """Shows the run together with others of this group."""

    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = []
    """Tags of the run in W&B."""

    notes: str | None = None
    """A description of the run."""

    system_metrics: bool = False
    """Record the machine's load, memory and GPU too. W&B then also records the host and the command line."""


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[wandb]` section."""
    return WandbSettings


@hookimpl
def ftcore_check(config: Config, settings: WandbSettings) -> Iterable[Problem]:
    """Whether wandb is installed and, where it shall send, can log in."""
    if "wandb" not in config.fine_tuner.reporters():
        return
    if find_spec("wandb") is None:
        yield Problem(
            "fine_tuner.report_to",
            "report_to names wandb, and the package wandb is not installed",
            "Install it: pip install 'ftcore[wandb]'",
        )
        return
    mode = chosen_mode(settings)
    if mode == "disabled":
        yield Problem(
            "fine_tuner.report_to",
            "report_to names wandb, and the variable WANDB_MODE=disabled keeps it from recording anything",
            'Clear the variable, or set mode in [wandb], or report_to = "none"',
            severity="warning",
        )
    elif mode not in ("online", "offline"):
        yield Problem(
            "wandb.mode",
            f"the variable WANDB_MODE={mode!r} is neither online nor offline",
            "Set it to one of these, or set mode in [wandb]",
        )
    elif mode == "online" and not _can_log_in():
        yield Problem(
            "wandb.mode" if config.was_given("wandb", "mode") else "fine_tuner.report_to",
            "wandb would send its records, and there is no key to log in with",
            'Set the variable WANDB_API_KEY, or run `wandb login`, or choose mode = "offline" in [wandb]',
        )


@hookimpl
def ftcore_make_reporter(run: Run, settings: WandbSettings) -> Reporter:
    """The reporter; wandb itself is imported when it starts."""
    from ftcore_wandb.reporter import WandbReporter

    return WandbReporter(run, settings, chosen_mode(settings))


def chosen_mode(settings: WandbSettings) -> str:
    """The mode in force."""
    return settings.mode or os.environ.get("WANDB_MODE") or "online"


def _can_log_in() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    from netrc import NetrcParseError, netrc
    from urllib.parse import urlsplit

    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:  # where `wandb login` leaves its key
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
