"""Acme's parts of a fine-tuning run: every hook of ftcore, on one page, and what they do in the modules beside it.

Nothing heavy is imported up here, because `ftcore check` and `ftcore plugins` import this module too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from acme_ftcore.conversation import TicketFormatter, make_formatter
from acme_ftcore.settings import AcmeSettings
from ftcore import hookimpl
from ftcore.contracts import (
    Bid,
    DataRequest,
    DataView,
    Formatter,
    Job,
    Loader,
    Locator,
    Policy,
    Reporter,
    Run,
    RunStatus,
    Saved,
    Stage,
    Trained,
    Trainer,
)
from ftcore.errors import Problem
from ftcore.settings import Section
from ftcore.settings.audit import AuditSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings

if TYPE_CHECKING:
    import click
    from datasets import Dataset

    from ftcore.config import Config


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[acme]` section."""
    return AcmeSettings


@hookimpl
def ftcore_check(config: Config, settings: AcmeSettings) -> Iterator[Problem]:
    """What can be known before a run: is everything there that Acme's parts will want?"""
    from acme_ftcore.check import problems
    from acme_ftcore.policy import broken_rules

    yield from problems(config, settings)
    yield from broken_rules(config)


@hookimpl
def ftcore_policy() -> Policy:
    """What the platform team gives to everybody, where ACME_POLICY names its file."""
    from acme_ftcore.policy import policy

    return policy()


@hookimpl
def ftcore_base_config(name: str) -> Path:
    """`extends = "acme:support"`: a start for those who want one."""
    from acme_ftcore.policy import base_config

    return base_config(name)


@hookimpl
def ftcore_preflight(run_name: str) -> Iterator[Problem]:
    """The policy's convention for names: here the name is known."""
    from acme_ftcore.policy import broken_convention

    yield from broken_convention(run_name)


@hookimpl
def ftcore_bid(stage: Stage, data: DataView | None) -> Bid | None:
    """Tickets are recognized by their columns; every other stage has to be asked for by name."""
    if stage == "formatter" and data is not None and set(TicketFormatter.COLUMNS) <= set(data.columns):
        return Bid(40, "the columns are those of Acme's tickets")
    return None


@hookimpl
def ftcore_name_run(config: Config, started_at: datetime, settings: AcmeSettings) -> str | None:
    """`acme-YYYYmmdd-HHMMSS` where `[acme] name_runs` asks for it; None leaves the name to the next namer."""
    run = config.run
    if not settings.name_runs or run.name is not None:
        return None
    return f"{run.name_prefix}acme-{started_at:%Y%m%d-%H%M%S}{run.name_suffix}"


@hookimpl
def ftcore_launch(run: Run, job: Job, settings: AcmeSettings) -> None:
    """One training at a time on a shared machine: wait for the turn, then train here."""
    from acme_ftcore.launcher import launch

    launch(run, job, settings)


@hookimpl
def ftcore_run_started(run: Run, settings: AcmeSettings) -> None:
    """Every run of the team goes into its diary."""
    _note(run, settings, "started")


@hookimpl
def ftcore_run_finished(run: Run, status: RunStatus, settings: AcmeSettings) -> None:
    _note(run, settings, status)


@hookimpl
def ftcore_run_failed(run: Run, error: BaseException, settings: AcmeSettings) -> None:
    _note(run, settings, f"failed: {error}")


@hookimpl
def ftcore_resolve_model(locator: Locator, settings: AcmeSettings) -> str:
    """`acme:base` is the folder `base` of Acme's model store."""
    from acme_ftcore.models import model_folder

    return str(model_folder(locator, settings))


@hookimpl
def ftcore_make_loader(run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> Loader:
    from acme_ftcore.loader import AcmeLoader

    return AcmeLoader(run, source, model, lora)


@hookimpl
def ftcore_load_dataset(request: DataRequest, settings: AcmeSettings) -> Dataset:
    """`acme:tickets`, and `acme:tickets/2026-10` for one month."""
    from acme_ftcore.tickets import load_tickets

    return load_tickets(request, settings)


@hookimpl
def ftcore_make_formatter(data: DataView) -> Formatter:
    return make_formatter(data)


@hookimpl
def ftcore_make_trainer(
    run: Run, training: TrainingSettings, logging: LoggingSettings, saving: SavingSettings, audit: AuditSettings
) -> Trainer:
    from acme_ftcore.trainer import AcmeTrainer

    return AcmeTrainer(run, training, logging, saving, audit)


@hookimpl
def ftcore_make_reporter(run: Run) -> Reporter:
    from acme_ftcore.reporter import JsonLinesReporter

    return JsonLinesReporter(run.dir / "acme.jsonl")


@hookimpl
def ftcore_save(run: Run, trained: Trained, settings: AcmeSettings) -> Saved:
    """The model as one archive, next to the others."""
    from acme_ftcore.archive import archive

    return Saved(f"{trained.kind} in an archive", str(archive(run, trained, settings)))


@hookimpl
def ftcore_register_commands(cli: click.Group) -> None:
    """`ftcore acme-demo FILE`."""
    from acme_ftcore.command import acme_demo

    cli.add_command(acme_demo)


def _note(run: Run, settings: AcmeSettings, text: str) -> None:
    if settings.diary is not None:
        from acme_ftcore.diary import note

        note(settings.diary, run.name, text)
