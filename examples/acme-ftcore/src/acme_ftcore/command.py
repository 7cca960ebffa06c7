"""`ftcore acme-demo`: a database of tickets to try `acme:tickets` with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path

import click

from ftcore.errors import ConfigError

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
    click.echo(f"{count} tickets in {database}; set [acme] database to it, and training_data_id to acme:tickets")


def write_demo(database: Path) -> int:
    """Make the database; how many tickets it has.

    Raises:
        ConfigError: the file exists already, or its folder does not.
    """
    if database.exists():
        raise ConfigError(f"{database} exists", why="nothing is overwritten", fix="Choose another name")
    tickets = [
        (f"2026-{9 + number % 3:02}-{1 + number:02}", thing, subject, body.format(thing), reply.format(thing))
        for number, (thing, (subject, (body, reply))) in enumerate(product(PRODUCTS, QUESTIONS.items()))
    ]
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "CREATE TABLE tickets (id INTEGER PRIMARY KEY, created TEXT, state TEXT,"
                " product TEXT, subject TEXT, body TEXT, reply TEXT)"
            )
            connection.executemany(
                "INSERT INTO tickets (state, created, product, subject, body, reply) VALUES ('solved', ?, ?, ?, ?, ?)",
                tickets,
            )
            connection.execute(
                "INSERT INTO tickets (state, created, product, subject, body)"
                " VALUES ('open', '2026-11-01', 'portable hole', 'It is gone', 'I put it down somewhere.')"
            )
    except sqlite3.Error as error:
        raise ConfigError(f"{database} cannot be made", why=str(error), fix="Choose another place") from error
    return len(tickets)
