"""What would stop Acme's parts of a run, found before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from acme_ftcore.settings import AcmeSettings, sqlite_file
from ftcore.errors import Problem

if TYPE_CHECKING:
    from ftcore.config import Config

_NOT_BY_THE_LOADER = (
    "load_in_4bit", "load_in_8bit", "full_finetuning", "bias", "use_rslora", "loftq_config",
    "use_gradient_checkpointing", "use_flash_attention", "chat_template", "trust_remote_code",
)  # fmt: skip
_NOT_BY_THE_TRAINER = ("packing", "optimizer", "lr_scheduler_type", "question_part", "answer_part")


def problems(config: Config, settings: AcmeSettings) -> Iterator[Problem]:
    """One for each thing that is missing, and for each key that the user set and Acme's parts leave aside."""
    yield from _database(config, settings)
    if config.stages.loader == "acme":
        yield from _left_aside(config, "loader", _NOT_BY_THE_LOADER)
    if config.stages.trainer == "acme":
        yield from _left_aside(config, "trainer", _NOT_BY_THE_TRAINER)


def _database(config: Config, settings: AcmeSettings) -> Iterator[Problem]:
    ids = (config.fine_tuner.training_data_id, config.fine_tuner.validation_data_id)
    if not any(data_id is not None and data_id.startswith("acme:") for data_id in ids):
        return
    if settings.database_url is None:
        yield Problem(
            "acme.database_url", "is not set: acme:tickets are read from it", "Set it to sqlite:///tickets.db"
        )
        return
    file = sqlite_file(settings.database_url, config.path.parent)
    if file is not None and not file.is_file():
        yield Problem("acme.database_url", f"there is no file {file}", "`ftcore acme-demo FILE` makes one to try")


def _left_aside(config: Config, stage: str, keys: tuple[str, ...]) -> Iterator[Problem]:
    for key in keys:
        given = config.was_given("fine_tuner", key)
        if given and getattr(config.fine_tuner, key) not in (False, None):
            message = f"{key} has no effect: the {stage} acme goes its own way"
            yield Problem(f"fine_tuner.{key}", message, severity="warning")
