"""Acme's parts on their own; ftcore's tests run them together, in real runs."""

from __future__ import annotations

import io
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import acme_ftcore
from acme_ftcore.batches import collate
from acme_ftcore.command import write_demo
from acme_ftcore.conversation import TicketFormatter, make_formatter
from acme_ftcore.labels import IGNORED, encode
from acme_ftcore.models import model_folder
from acme_ftcore.reporter import JsonLinesReporter
from acme_ftcore.settings import AcmeSettings
from ftcore.config import load
from ftcore.contracts import DataView, Locator, RunRecord
from ftcore.errors import ConfigError, FormatMismatch, ModelError
from ftcore.plugins import discover
from ftcore.settings.data import DataSettings

TICKET = {"product": "anvil", "subject": "Weight", "body": "How heavy is it?", "reply": "Very."}


def view(*columns: str, **settings: Any) -> DataView:
    return DataView(columns, DataSettings(training_data_id="acme:tickets", **settings))


def test_the_plugin_is_installed_and_serves_every_stage() -> None:
    record = discover(disabled=()).get("acme")
    assert record is not None
    assert (record.state, record.distribution) == ("ok", "acme-ftcore")
    assert sorted(record.stages) == sorted(
        ["launcher", "loader", "formatter", "trainer", "saver", "reporter", "data", "model", "namer"]
    )


def test_a_run_is_named_only_where_that_is_asked_for(ftcore_project: Any) -> None:
    started = datetime(2026, 11, 23, 6, 45, tzinfo=UTC)

    def name(run: dict[str, str], **settings: bool) -> str | None:
        path = ftcore_project.config({"fine_tuner": {"base_model_id": "acme:base"}, "run": run})
        return acme_ftcore.ftcore_name_run(load(path, discover(disabled=())), started, AcmeSettings(**settings))

    assert name({}) is None
    assert name({"name": "mine"}, name_runs=True) is None
    assert name({"name_prefix": "support-"}, name_runs=True) == "support-acme-20261123-064500"


def test_a_ticket_becomes_a_conversation() -> None:
    system, question, answer = make_formatter(view(*TICKET))(TICKET)
    assert system["content"] == "You are Acme's support for the anvil."
    assert question == {"role": "user", "content": "Subject: Weight\n\nHow heavy is it?"}
    assert answer == {"role": "assistant", "content": "Very."}
    assert make_formatter(view(*TICKET, system_prompt_override_text="Be short."))(TICKET)[0]["content"] == "Be short."


@pytest.mark.parametrize("cell", ["", "  ", None, 3])
def test_a_ticket_without_a_text_is_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match="reply is empty or no text"):
        TicketFormatter()({**TICKET, "reply": cell})


def test_other_data_are_not_tickets() -> None:
    with pytest.raises(FormatMismatch, match="no column product, subject, body, reply"):
        make_formatter(view("question", "answer"))
    assert acme_ftcore.ftcore_bid("formatter", view("question", "answer")) is None
    assert acme_ftcore.ftcore_bid("formatter", view(*TICKET)) is not None


def test_the_model_store(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    settings = AcmeSettings(model_store=tmp_path)
    assert model_folder(Locator("acme:base", "base"), settings) == tmp_path / "base"
    for path in ("bsae", "../etc", ""):
        with pytest.raises(ModelError, match="has base"):
            model_folder(Locator(f"acme:{path}", path), settings)


def test_a_record_that_was_half_written_is_written_whole_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "acme.jsonl"
    reporter = JsonLinesReporter(path)
    external_id = reporter.start(RunRecord("r", tmp_path, {"fine_tuner.epochs": 1}, {}))
    reporter.log({"loss": 2.0}, 1, 0.0)
    with path.open("a") as file:  # a full disk, say, in the middle of the next record
        file.write('{"kind": "metr')
    reporter.log({"loss": 1.0}, 2, 0.0)
    with path.open("a") as file:
        file.write('{"kind": "fin')
    resumed = JsonLinesReporter(path)
    resumed.start(RunRecord("r", tmp_path, {}, {}, external_id))
    resumed.finish("finished", 1_700_000_000.0)
    lines = [json.loads(line) for line in io.StringIO(path.read_text())]
    assert [line["kind"] for line in lines] == ["start", "metrics", "metrics", "finish"]
    assert [line.get("loss") for line in lines] == [None, 2.0, 1.0, None]


def test_only_the_last_answer_is_learned() -> None:
    from ftcore.testing.models import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    conversation = TicketFormatter()(TICKET)
    encoded = encode([conversation], tokenizer, 1000, responses_only=True)
    (ids,), (labels,) = encoded.input_ids, encoded.labels
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(conversation, tokenize=False)
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == "Very.<|im_end|>\n"
    cut = encode([conversation], tokenizer, 10, responses_only=False)
    assert (cut.input_ids, cut.labels, cut.truncated, cut.longest) == ([ids[:10]], [ids[:10]], 1, len(ids))


def test_padding_is_neither_seen_nor_learned() -> None:
    batch = collate({"input_ids": [[5, 6, 7], [8]], "labels": [[IGNORED, 6, 7], [8]]}, 9, "cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]


def test_a_demo_database_is_never_overwritten(tmp_path: Path) -> None:
    write_demo(tmp_path / "t.db")
    with pytest.raises(ConfigError, match="exists"):
        write_demo(tmp_path / "t.db")


def test_the_readmes_configuration_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcore.check import check

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    text = readme.partition("```toml\n")[2].partition("```")[0]
    assert tomllib.loads(text)["acme"]["name_runs"] is True
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(text)
    write_demo(tmp_path / "tickets.db")
    plugins = discover(disabled=())
    selected, warnings = check(load(tmp_path / "config.toml", plugins), plugins)
    assert {choice.stage for choice in selected if choice.plugin == "acme"} == {
        "namer", "launcher", "model", "loader", "data", "formatter", "trainer", "reporter", "saver"
    }  # fmt: skip
    assert warnings == []
