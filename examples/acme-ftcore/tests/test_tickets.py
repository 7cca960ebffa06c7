"""The data source on real databases: a SQLite file, and PostgreSQL where a server can be started."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from acme_ftcore.command import fill, write_demo
from acme_ftcore.database import TICKETS, reading
from acme_ftcore.settings import PASSWORD, AcmeSettings
from acme_ftcore.tickets import load_tickets
from ftcore.contracts import DataRequest, Locator
from ftcore.errors import ConfigError, DataError

NOWHERE = Path("/nowhere")  # the URLs of these tests are absolute


def load(url: str, path: str = "tickets", purpose: Any = "training", **options: str) -> Any:
    locator = Locator(f"acme:{path}", path, options)
    request = DataRequest(locator, purpose, num_proc=1, seed=0, base_dir=NOWHERE)
    return load_tickets(request, AcmeSettings(database_url=url))


@pytest.fixture
def filled(database: str, changing: Any) -> str:
    """The demo's tickets: 20 solved ones, and an open one."""
    with changing(database) as connection:
        assert fill(connection) == 20
    return database


def test_solved_tickets_in_order_some_held_out(filled: str) -> None:
    train, held_out = load(filled), load(filled, purpose="validation")
    assert (len(train), len(held_out)) == (18, 2)
    assert train.column_names == ["product", "subject", "body", "reply"]
    assert train[0]["product"] == "rocket sled"
    assert [row["product"] for row in held_out] == ["portable hole", "jet-propelled unicycle"]  # numbers 9 and 19
    assert "It is gone" not in {*train["subject"], *held_out["subject"]}  # an open ticket has no reply to learn
    months = [load(filled, f"tickets/2026-{month}") for month in ("09", "10", "11")]
    assert sum(map(len, months)) == len(train)


def test_a_month_ends_before_the_next_one(database: str, changing: Any) -> None:
    days = [date(2026, 11, 30), date(2026, 12, 1), date(2026, 12, 31), date(2027, 1, 1)]
    ticket = {"state": "solved", "product": "anvil", "body": "b", "reply": "r"}
    with changing(database) as connection:
        TICKETS.metadata.create_all(connection)
        connection.execute(TICKETS.insert(), [{**ticket, "created": day, "subject": str(day)} for day in days])
    assert load(database, "tickets/2026-12")["subject"][:] == ["2026-12-01", "2026-12-31"]


def test_a_ticket_stays_on_its_side_when_others_are_removed(filled: str, changing: Any) -> None:
    before = load(filled, purpose="validation")["body"][:]
    with changing(filled) as connection:
        connection.execute(TICKETS.delete().where(TICKETS.c.id.in_([1, 5])))
    assert load(filled, purpose="validation")["body"][:] == before


def test_the_rows_are_read_anew_and_the_same_rows_are_kept_once(filled: str, cache: Path, changing: Any) -> None:
    first, again = load(filled), load(filled)
    assert first.cache_files == again.cache_files
    with changing(filled) as connection:
        connection.execute(TICKETS.update().where(TICKETS.c.id == 1).values(reply="We are sorry."))
    changed = load(filled)
    assert first[0]["reply"] != changed[0]["reply"] == "We are sorry."
    assert len(list(cache.glob("acme/*/about.json"))) == 2
    assert not [path for path in (cache / "acme").iterdir() if path.name.startswith(".")]


def test_nothing_can_be_written(filled: str) -> None:
    with (
        pytest.raises(DataError, match=r"read-?only"),
        reading(AcmeSettings(database_url=filled), NOWHERE) as connection,
    ):
        connection.execute(
            TICKETS.delete(), execution_options={"yield_per": None}
        )  # PostgreSQL has cursors for SELECT only
    assert len(load(filled)) == 18


def test_an_empty_cell_is_for_the_formatter_to_judge(filled: str, changing: Any) -> None:
    with changing(filled) as connection:
        connection.execute(TICKETS.update().where(TICKETS.c.id == 2).values(reply=None))
    assert load(filled)[1]["reply"] is None


@pytest.mark.parametrize(
    ("path", "options", "error", "message"),
    [
        ("invoices", {}, DataError, "Use acme:tickets, or acme:tickets/2026-10"),
        ("tickets/october", {}, DataError, "no data"),
        ("tickets/2026-13", {}, DataError, "no data"),
        ("tickets/2020-01", {}, DataError, "none is solved. Check the month"),
        ("tickets", {"split": "train"}, ConfigError, "takes none"),
    ],
)
def test_other_ids_are_refused(filled: str, path: str, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        load(filled, path, **options)


def test_without_a_table_the_database_says_so(database: str, tmp_path: Path) -> None:
    if database.startswith("sqlite"):
        (tmp_path / "tickets.db").touch()
    with pytest.raises(DataError, match=r"tickets.*(no such table|does not exist)") as caught:
        load(database)
    assert "SELECT" not in str(caught.value)
    assert "Check [acme] database_url" in str(caught.value)


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_text("no database at all, but long enough to be looked at " * 20)
    with pytest.raises(DataError, match=r"junk\.db.*file is not a database"):
        load(f"sqlite:///{tmp_path}/junk.db")
    with pytest.raises(DataError, match="unable to open"):
        load(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_relative_file_is_looked_up_beside_the_configuration(tmp_path: Path) -> None:
    write_demo(tmp_path / "my tickets #1.db")
    request = DataRequest(Locator("acme:tickets", "tickets"), "training", num_proc=1, seed=0, base_dir=tmp_path)
    assert len(load_tickets(request, AcmeSettings(database_url="sqlite:///my tickets #1.db"))) == 18


def test_a_cell_that_is_no_text_is_told_by_its_column(tmp_path: Path, changing: Any) -> None:

    url = f"sqlite:///{tmp_path}/odd.db"
    with changing(url) as connection:
        connection.execute(text("CREATE TABLE tickets (id, created, state, product, subject, body, reply)"))
        connection.execute(
            text("INSERT INTO tickets VALUES (1, '2026-10-01', 'solved', 'anvil', 'Weight', 7.5, 'Very.')")
        )
    with pytest.raises(DataError, match="column body of the tickets holds other things than text"):
        load(url)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("oracle+oracledb://db.acme.example/x", DataError, "no driver for oracle"),
        ("nonsense://db.acme.example/x", ConfigError, "no kind of database that SQLAlchemy knows"),
        (None, ConfigError, "database_url is not set"),
    ],
)
def test_a_database_that_nothing_here_can_read(url: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        load(url)


def test_no_server_there_and_a_wrong_password(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "not-the-password")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        load(server)
    assert "not-the-password" not in str(caught.value)
    with pytest.raises(DataError, match="refused"):
        load("postgresql+psycopg://reader@127.0.0.1:1/postgres")


@pytest.mark.parametrize("url", ["postgresql://ada:{0}@db/x", "postgresql://ada@db/x?password={0}", "{0}"])
def test_a_password_in_the_configuration_is_refused_and_not_repeated(ftcore_project: Any, url: str) -> None:
    ftcore_project.config({"acme": {"database_url": url.format("carrots-in-the-file")}})
    done = ftcore_project.ftcore("check", "config.toml")
    assert done.exit_code == 2
    assert ("has a password in it" if url != "{0}" else "is no URL") in done.output
    assert "carrots-in-the-file" not in done.output


def test_a_run_keeps_the_password_to_itself(filled: str, ftcore_project: Any) -> None:
    config = {
        "fine_tuner": {"training_data_id": "acme:tickets", "validation_data_id": "acme:tickets"},
        "stages": {"formatter": "acme"},
        "acme": {"database_url": filled},
    }
    run = ftcore_project.run(config)
    assert (run.manifest["data"]["training_rows"], run.manifest["data"]["validation_rows"]) == (18, 2)
    written = b"".join(path.read_bytes() for path in ftcore_project.path.rglob("*") if path.is_file())
    assert os.environ.get(PASSWORD, "no password").encode() not in written
    assert os.environ.get(PASSWORD, "no password") not in run.output
    assert filled in (run.path / "config.toml").read_text()  # so that the run can be gone on with


MEASURE = """
import resource, sys
from pathlib import Path
from acme_ftcore.settings import AcmeSettings
from acme_ftcore.tickets import load_tickets
from ftcore.contracts import DataRequest, Locator

def load(path):
    request = DataRequest(Locator(path, path), "training", num_proc=1, seed=0, base_dir=Path("."))
    return len(load_tickets(request, AcmeSettings(database_url=sys.argv[1])))

few = load("tickets/2026-01")  # after it, everything is imported
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(few, load("tickets"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_million_tickets_need_no_more_memory_than_a_thousand(database: str, changing: Any) -> None:
    """Measured on 110,000 of 500 characters, which is 55 MB."""
    many = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 110000) "
        "INSERT INTO tickets (id, created, state, product, subject, body, reply) "
        "SELECT i, CASE WHEN i < 5000 THEN DATE('2026-01-01') ELSE DATE('2026-02-01') END,"
        " 'solved', 'anvil', 'Weight', :body, 'Very.' FROM n"
    )
    with changing(database) as connection:
        TICKETS.metadata.create_all(connection)
        connection.execute(many, {"body": "How heavy is it? " * 30})
    # A child's peak begins at what its parent holds, which would hide what it needs: a small process starts it.
    starter = [sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"]
    command = [*starter, sys.executable, "-c", MEASURE, database]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, all_of_them, kilobytes = map(int, done.stdout.split())
    assert (few, all_of_them) == (4499, 99_000)
    assert kilobytes < 20_000
