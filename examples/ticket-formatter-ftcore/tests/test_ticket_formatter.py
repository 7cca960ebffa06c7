"""Threads of tickets: turns, quotes, signatures, bad rows, and a real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import DataView
from ftcore.errors import ConfigError, FormatMismatch
from ftcore.settings.data import DataSettings
from ftcore.testing import PluginSetup, check_plugin
from ticket_formatter_ftcore import ftcore_make_formatter
from ticket_formatter_ftcore.settings import TicketSettings

ASKS = {"author": "customer", "text": "How heavy is the anvil?"}
ANSWERS = {"author": "agent", "text": "A hundred kilograms."}
TICKET = {"subject": "Weight", "thread": [ASKS, ANSWERS]}


def make(row: Any = TICKET, data: Any = None, **settings: Any) -> Any:
    view = DataView(list(row), DataSettings(training_data_id="t.jsonl", **(data or {})), [row])
    return ftcore_make_formatter(view, TicketSettings(**settings))


def said(*messages: Any, **settings: Any) -> list[str]:
    """The turns of a thread without a subject."""
    return [turn["content"] for turn in make(**settings)({"thread": list(messages)})]


def only(text: str, **settings: Any) -> str:
    """What is left of a customer's message."""
    return said({"author": "customer", "text": text}, ANSWERS, **settings)[0]


def test_a_ticket_becomes_a_conversation() -> None:
    assert make()(TICKET) == [
        {"role": "user", "content": "Subject: Weight\n\nHow heavy is the anvil?"},
        {"role": "assistant", "content": "A hundred kilograms."},
    ]


def test_messages_of_one_side_are_one_turn_and_thanks_are_left_out() -> None:
    also, thanks = {"author": "customer", "text": "And is it new?"}, {"author": "customer", "text": "Thank you!"}
    assert said(ASKS, also, ANSWERS, ANSWERS, thanks) == [
        "How heavy is the anvil?\n\nAnd is it new?",
        "A hundred kilograms.\n\nA hundred kilograms.",
    ]


def test_other_names_for_everything() -> None:
    row = {
        "mails": [{"from": "bot", "body": "Ticket 7"}, {"from": "ada", "body": "Hm?"}, {"from": "us", "body": "Ah."}]
    }
    settings = {"thread_column": "mails", "author_key": "from", "text_key": "body"}
    names = {"customers": ("ada",), "agents": ("us", "them"), "skipped": ("bot",)}
    assert [turn["content"] for turn in make(row, **settings, **names)(row)] == ["Hm?", "Ah."]
    with pytest.raises(ConfigError, match='"us" is in two lists'):
        make(row, **settings, **names | {"customers": ("us",)})


def test_the_system_prompt_is_the_runs_or_the_sections() -> None:
    system = {"role": "system", "content": "Be kind."}
    assert make(system_prompt="Be kind.")(TICKET)[0] == system
    assert make(data={"system_prompt_override_text": "Be kind."}, system_prompt="Be brief.")(TICKET)[0] == system
    assert make(data={"system_prompt_override_text": ""}, system_prompt="Be brief.")(TICKET)[0]["role"] == "user"


QUOTES = {
    "below": ("It is broken.\n\nOn Mon, 2 Nov 2026 at 10:00, Ada <ada@acme.example> wrote:\n> Is it new?\n>\n> Ada", "It is broken."),
    "announced in two lines": ("Broken.\n\nOn Mon, 2 Nov 2026 at 10:00,\nAda <ada@acme.example> wrote:\n\n> New?", "Broken."),
    "between": ("> Is it new?\nYes.\n> Is it red?\nNo.", "Yes.\nNo."),
    "the original": ("Still broken.\r\n\r\n-----Original Message-----\r\nFrom: Ada\r\nIs it new?", "Still broken."),
    "no quote": ("5 > 3, and a -> b.\nOn Monday it broke.", "5 > 3, and a -> b.\nOn Monday it broke."),
}  # fmt: skip


@pytest.mark.parametrize(("text", "left"), QUOTES.values(), ids=QUOTES)
def test_quotes_are_taken_out(text: str, left: str) -> None:
    assert only(text) == left
    assert only(text, remove_quotes=False) == text.replace("\r\n", "\n")


SIGNATURES = {
    "standard": ("It is broken.\n-- \nAda Lovelace\nAcme", "It is broken."),
    "trimmed": ("It is broken.\n--\nAda", "It is broken."),
    "telephone": ("It is broken.\n\nSent from my phone", "It is broken."),
    "a rule in the text": ("It is\n---\nbroken.", "It is\n---\nbroken."),
}


@pytest.mark.parametrize(("text", "left"), SIGNATURES.values(), ids=SIGNATURES)
def test_signatures_are_taken_out(text: str, left: str) -> None:
    assert only(text) == left
    assert only(text, remove_signatures=False) == text.strip()


def test_signatures_of_the_house() -> None:
    assert only("Broken.\nKind regards\nAda", signature_lines=(r"Kind regards.*",)) == "Broken."
    with pytest.raises(ValueError, match="is no regular expression"):
        TicketSettings(signature_lines=("(",))


BAD: dict[str, tuple[Any, str]] = {
    "null": (None, "no list of messages"),
    "text": ("How heavy?", "no list of messages"),
    "empty": ([], "an empty one"),
    "no object": (["How heavy?"], "message 1 is no object"),
    "unknown author": ([{"author": "robot", "text": "Beep."}], "message 1 has the author 'robot'"),
    "no author": ([{"text": "Beep."}], "message 1 has the author 'None'"),
    "no text": ([ASKS, {"author": "agent", "text": None}], '"text" of message 2 is no text'),
    "blank": ([ASKS, {"author": "agent", "text": " \n"}], "message 2 says nothing$"),
    "only a quote": ([ASKS, {"author": "agent", "text": "> Hm?\n-- \nMe"}], "says nothing besides a quote"),
    "answer first": ([ANSWERS, ASKS, ANSWERS], "first message is no customer's"),
    "no answer": ([ASKS, ASKS], "no message is an answer"),
}


@pytest.mark.parametrize(("thread", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_says_what_is_wrong(thread: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()({"subject": None, "thread": thread})


def test_other_data_are_not_tickets() -> None:
    with pytest.raises(FormatMismatch, match="thread_column"):
        make({"question": "q", "answer": "a"})
    with pytest.raises(ConfigError, match="question_column has no place"):
        make(data={"question_column": "subject"})


def test_the_readmes_ticket() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    row = json.loads(readme.partition("```json\n")[2].partition("```")[0])
    told = readme.partition("```text\n")[2].partition("```")[0]
    turns = make(row)(row)
    assert [turn["content"].split() for turn in turns] == [
        told[told.index("Subject") : told.index("assistant")].split(),
        told.partition("assistant")[2].split(),
    ]


def test_a_run_recognizes_tickets_and_counts_the_bad_ones(ftcore_project: Any) -> None:
    tickets = [{"subject": f"Anvil {number}", "thread": [ASKS, ANSWERS]} for number in range(9)]
    ftcore_project.data([*tickets, {"subject": "Lost", "thread": [ASKS]}])
    run = ftcore_project.run({"audit": {"max_bad_rows": 0.2}, "tickets": {"system_prompt": "Be kind."}})
    assert "formatter  tickets (auto: the column thread holds threads of tickets)" in run.output
    assert "no message is an answer to a customer" in run.output
    assert run.manifest["data"]["training_rows"] == 9


def test_it_keeps_the_rules() -> None:
    check_plugin("tickets", setup=PluginSetup(rows=[TICKET, {"subject": "", "thread": [ASKS, ASKS, ANSWERS]}]))
