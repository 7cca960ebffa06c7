"""The formatter `tickets`: threads of support tickets as conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftcore import hookimpl
from ftcore.contracts import Bid, DataView, Formatter, Stage
from ftcore.settings import Section
from ticket_formatter_ftcore.formatter import foreign, make_formatter
from ticket_formatter_ftcore.settings import TicketSettings

if TYPE_CHECKING:
    from ftcore.config import Config


@hookimpl
def ftcore_settings() -> type[Section]:
    """The `[tickets]` section."""
    return TicketSettings


@hookimpl
def ftcore_bid(stage: Stage, config: Config, data: DataView | None) -> Bid | None:
    """Threads are recognized where the formatter is left on "auto": a list of messages with these two keys."""
    if stage != "formatter" or data is None or foreign(data):
        return None
    section = config.section("tickets")
    settings = section if isinstance(section, TicketSettings) else TicketSettings()
    threads = [row.get(settings.thread_column) for row in data.sample]
    keys = {settings.author_key, settings.text_key}
    if not any(isinstance(thread, list) and thread and keys <= set(thread[0]) for thread in threads):
        return None
    return Bid(40, f"the column {settings.thread_column} holds threads of tickets")


@hookimpl
def ftcore_make_formatter(data: DataView, settings: TicketSettings) -> Formatter:
    """The formatter for these columns."""
    return make_formatter(data, settings)
