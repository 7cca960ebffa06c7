"""The data source `acme:tickets`: solved support tickets, read from the database piece by piece."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from acme_ftcore.settings import AcmeSettings
from ftcore.contracts import DataRequest, Locator
from ftcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from sqlalchemy import Select

_PATH = re.compile(r"tickets(?:/(?P<year>20\d\d)-(?P<month>0[1-9]|1[0-2]))?")
COLUMNS = ("product", "subject", "body", "reply")


def load_tickets(request: DataRequest, settings: AcmeSettings) -> Dataset:
    """The solved tickets, in the order of their numbers; those whose number ends with 9 are kept for validation.

    Raises:
        ConfigError: the id has options, or `[acme] database_url` cannot be used.
        DataError: there are no such tickets, or they cannot be read.
    """
    query = _query(request.locator, held_out=request.purpose == "validation")

    from acme_ftcore.arrow import on_disk
    from acme_ftcore.database import reading

    with reading(settings, request.base_dir) as connection:
        return on_disk(connection.execute(query).partitions(), COLUMNS, request.locator.text)


def _query(locator: Locator, *, held_out: bool) -> Select[tuple[str | None, ...]]:
    match = _PATH.fullmatch(locator.path)
    if match is None:
        raise DataError(f'there are no data "{locator.text}"', fix="Use acme:tickets, or acme:tickets/2026-10")
    if locator.options:
        raise ConfigError(f'"{locator.text}" has options, and acme:tickets takes none', fix="Remove them")

    from sqlalchemy import select

    from acme_ftcore.database import TICKETS

    ticket = TICKETS.c
    # By the number and not by the place among the others: a ticket stays where it is when others are added.
    kept_back = ticket.id % 10 == 9
    query = select(*(ticket[name] for name in COLUMNS)).order_by(ticket.id)
    query = query.where(ticket.state == "solved", kept_back if held_out else ~kept_back)
    if match["month"] is not None:
        first = date(int(match["year"]), int(match["month"]), 1)
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
        query = query.where(ticket.created >= first, ticket.created < after)
    return query
