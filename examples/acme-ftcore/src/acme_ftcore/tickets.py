"""The data source `acme:tickets`: solved support tickets, read from the database piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from acme_ftcore.settings import AcmeSettings
from ftcore import arrow
from ftcore.contracts import DataRequest, Locator
from ftcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa
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

    from acme_ftcore.database import reading

    source = request.locator.text
    with reading(settings, request.base_dir) as connection:
        # Without a key: nothing says cheaply whether the database is as it was, so every run reads it anew.
        return arrow.dataset(_texts(connection.execute(query).partitions(), source), source, "acme")


def _texts(pieces: Iterable[Sequence[Sequence[Any]]], source: str) -> Iterator[pa.Table]:
    """The rows that the database hands out, a piece at a time, as columns of text."""
    import pyarrow as pa

    none = True
    for piece in pieces:
        cells = zip(COLUMNS, zip(*piece, strict=True), strict=True)
        yield pa.table([_column(name, values) for name, values in cells], names=list(COLUMNS))
        none = False
    if none:
        raise DataError(f'there are no tickets "{source}"', why="none is solved", fix="Check the month in the id")


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except pa.ArrowException as error:
        raise DataError(f"the column {name} of the tickets holds other things than text", why=str(error)) from None


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
