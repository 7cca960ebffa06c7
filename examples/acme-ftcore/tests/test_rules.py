"""All that this plugin serves, held against ftcore's rules."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

from acme_ftcore.command import write_demo
from acme_ftcore.database import TICKETS
from ftcore.testing import PluginSetup, check_plugin


def test_it_keeps_the_rules(tmp_path: Path, ftcore_model: Path, changing: Any) -> None:
    write_demo(tmp_path / "tickets.db")
    with changing(f"sqlite:///{tmp_path}/tickets.db") as connection:
        month = {"created": date(2026, 1, 1), "state": "solved", "product": "anvil", "subject": "Weight"}
        connection.execute(TICKETS.insert(), [{**month, "body": "How heavy is it? " * 50, "reply": "Very."}] * 12_000)
    shutil.copytree(ftcore_model, tmp_path / "models" / "base")
    section: dict[str, Any] = {
        "database_url": f"sqlite:///{tmp_path}/tickets.db",
        "model_store": str(tmp_path / "models"),
        "archive_dir": str(tmp_path / "archive"),
        "turnstile": str(tmp_path / "acme.lock"),
        "name_runs": True,
    }
    ticket = {"product": "anvil", "subject": "Weight", "body": "How heavy is it?", "reply": "Very."}
    setup = PluginSetup(
        config={"acme": section},
        rows=[ticket, {**ticket, "reply": "A hundred kilograms."}],
        data="acme:tickets/2026-10",
        missing="acme:tickets/2020-01",
        large="acme:tickets/2026-01",
        model="acme:base",
    )
    check_plugin("acme", setup=setup)
