"""`ftcore acme-demo`: a database of tickets to try `acme:tickets` with."""

from __future__ import annotations

from datetime import date
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcore.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection

PRODUCTS = ("rocket sled", "giant magnet", "portable hole", "earthquake pills", "jet-propelled unicycle")
QUESTIONS = {
    "It arrived broken": ("My {} came in two pieces.", "Send us a photo, and we replace the {} free of charge."),
    "How do I turn it off?": ("I cannot find the switch.", "The {} has a red lever on its left side. Pull it twice."),
    "Where is my order?": ("I ordered a {} three weeks ago.", "Your {} left our warehouse on Monday."),
    "Is it waterproof?": ("Can I use the {} in the rain?", "The {} takes rain, but no diving."),
}


@click.command("acme-demo")
@click.argument("database", type=click.Path(path_type=Path))
def acme_demo(database: Path) -> None:
    """Write a small DATABASE of solved support tickets."""
    count = write_demo(database)
    click.echo(
        f"{count} tickets in {database}; set [acme] database_url to sqlite:///{database}, and training_data_id to acme:tickets"
    )


def write_demo(database: Path) -> int:
    """Make the database; how many tickets it has.

    Raises:
        ConfigError: the file exists already, or its folder does not.
    """
    from sqlalchemy import URL, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    if database.exists():
        raise ConfigError(f"{database} exists", why="nothing is overwritten", fix="Choose another name")
    engine = create_engine(URL.create("sqlite", database=str(database)))
    try:
        with engine.begin() as connection:
            return fill(connection)
    except SQLAlchemyError as error:
        raise ConfigError(f"{database} cannot be made", why=str(error), fix="Choose another place") from error
    finally:
        engine.dispose()


def fill(connection: Connection) -> int:
    """Make the table in a database of any kind; how many solved tickets it has."""
    from acme_ftcore.database import TICKETS

    solved = [
        {
            "created": date(2026, 9 + number % 3, 1 + number),
            "state": "solved",
            "product": thing,
            "subject": subject,
            "body": body.format(thing),
            "reply": reply.format(thing),
        }
        for number, (thing, (subject, (body, reply))) in enumerate(product(PRODUCTS, QUESTIONS.items()))
    ]
    open_one = {
        "created": date(2026, 11, 1),
        "state": "open",
        "product": "portable hole",
        "subject": "It is gone",
        "body": "I put it down somewhere.",
        "reply": None,
    }
    TICKETS.metadata.create_all(connection)
    connection.execute(TICKETS.insert(), [*solved, open_one])
    return len(solved)
