"""`ftcore preview`: rows token by token, statistics, and a page that does no harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="tokenizing needs the extra [train]")
pytest.importorskip("datasets")

from rich.console import Console

from ftcore.config import load
from ftcore.contracts import IGNORED
from ftcore.preview import html, terminal
from ftcore.preview.gather import Preview, gather
from ftcore.preview.tokens import Token, texts, tokens, visible
from ftcore.testing.models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()

ROWS = [{"question": f"How many are {n}?", "answer": f"{n}."} for n in range(8)]
HOSTILE = {
    "question": "<script>alert(1)</script> \u202eevil\u202c \x1b[31m \x07\x00 &amp; <b>bold</b>",
    "answer": '</script></span><img src=x onerror="alert(1)"> \u2028 日本 🙂 {{ 7*7 }} javascript:alert(1)',
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder without any weights, nor even an architecture: the model is never loaded."""
    folder = tmp_path_factory.mktemp("model")
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a configuration and its data; `own` are keys of [fine_tuner]."""
    monkeypatch.setenv("FTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(rows: list[dict[str, Any]] = ROWS, validation: list[dict[str, Any]] | None = None, **own: Any) -> Path:
        values: dict[str, Any] = {"base_model_id": str(model), "training_data_id": "train.jsonl", "epochs": 2}
        for name, data in (("train", rows), ("validation", validation)):
            if data is not None:
                lines = "".join(json.dumps(row) + "\n" for row in data)
                (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        if validation is not None:
            values["validation_data_id"] = "validation.jsonl"
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (values | own).items())
        (tmp_path / "c.toml").write_text("[fine_tuner]\nload_in_4bit = false\n" + text, encoding="utf-8")
        return tmp_path / "c.toml"

    return write


def previewed(path: Path, plugins: Any, first: int = 0, *numbers: int, validation: bool = False) -> Preview:
    return gather(load(path, plugins), plugins, first, numbers, validation)


def said(shown: list[Token], state: str) -> str:
    return "".join(token.text for token in shown if token.state == state)


def printed(preview: Preview, **options: Any) -> str:
    stream = io.StringIO()
    terminal.show(preview, Console(file=stream, width=200, **options))
    return stream.getvalue()


# The command.


def test_rows_and_statistics_without_colours(config: Any, ftcore: Any) -> None:
    config([*ROWS, ROWS[3]], validation=[ROWS[1], {"question": "And now?", "answer": "No."}])
    outcome = ftcore("preview", "c.toml", "--rows", "1")
    assert (outcome.code, outcome.errors) == (0, [])
    assert "\x1b" not in outcome.out
    lines = outcome.out.splitlines()
    assert lines[lines.index("row 0 of the training data: 25 tokens, 3 supervised") + 1 :][:5] == [
        "  masked      ⟨<|im_start|>⟩│us│er│↵│",
        "              H│o│w│ man│y│ are│ │0│?│⟨<|im_end|>⟩│↵│",
        "              ⟨<|im_start|>⟩│as│sist│an│t│↵│",
        "  supervised  0│.│⟨<|im_end|>⟩│",
        "  masked      ↵│",
    ]
    flat = " ".join(outcome.out.split())
    for fact in (
        "! duplicates 1 row the same as earlier ones (8 = 3)",
        "! overlap 1 row of the validation data in the training data too (0 = 1)",
        "open end none",
        "EOS supervised in 9 rows",
        "steps 1 per epoch, 2 in 2 epochs",
        "the audit ! warning ",
        "passed a run would go on to load the model",
    ):
        assert fact in flat
    drawn = re.search(r"tokens rows((?: \d+ [█▏▎▍▌▋▊▉]* \d+)+)", flat)
    assert drawn is not None
    assert sum(int(rows) for rows in drawn[1].split()[2::3]) == 9
    assert "row 1 of" not in outcome.out


def test_a_row_that_a_message_named_is_shown(config: Any, ftcore: Any) -> None:
    config()
    outcome = ftcore("preview", "c.toml", "--row", "6", "--row", "2")
    assert re.findall(r"^row (\d+)", outcome.out, re.MULTILINE) == ["6", "2"]
    outcome = ftcore("preview", "c.toml", "--row", "6", "--rows", "1")
    assert re.findall(r"^row (\d+)", outcome.out, re.MULTILINE) == ["0", "6"]


def test_a_row_that_is_not_there_is_an_error(config: Any, ftcore: Any) -> None:
    config()
    outcome = ftcore("preview", "c.toml", "--row", "8")
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.errors == ["error: there is no row 8: the training data have 8 rows, and the first is row 0"]


def test_validation_rows_are_shown_where_there_are_some(config: Any, ftcore: Any) -> None:
    config(validation=[{"question": "And now?", "answer": "No."}])
    assert "row 0 of the validation data" in ftcore("preview", "c.toml", "--validation").out
    config()
    outcome = ftcore("preview", "c.toml", "--validation")
    assert outcome.code == 4
    assert outcome.errors == [
        "error: there are no validation data to show. Set validation_data_id, or leave --validation out"
    ]


def test_the_page_is_written_and_the_statistics_still_said(config: Any, ftcore: Any) -> None:
    config()
    outcome = ftcore("preview", "c.toml", "--html", "page.html")
    assert outcome.out.endswith("The rows are in page.html: open it in a browser.\n")
    assert "row 0 of" not in outcome.out
    assert "training data" in outcome.out
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    outcome = ftcore("preview", "c.toml", "--html", "no/such/folder.html")
    assert outcome.code == 2
    assert outcome.errors == [
        "error: the page cannot be written to no/such/folder.html: No such file or directory. Choose another --html"
    ]


# What is shown.

FORMATS = {
    "qa": {"question": "Who?", "answer": "Me."},
    "instruction": {"instruction": "Who?", "input": "", "output": "Me."},
    "messages": {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]},
}


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("format_name", FORMATS)
def test_every_formatter_and_packing(config: Any, plugins: Any, format_name: str, packing: bool) -> None:
    row = FORMATS[format_name]
    preview = previewed(config([row] * 5, packing=packing, max_sequence_length=64), plugins, 1, 4)
    for example in preview.examples:
        assert said(list(example.tokens), "supervised") == "Me.<|im_end|>"
        assert said(list(example.tokens), "masked") == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n\n"
    assert [example.number for example in preview.examples] == [0, 4]
    assert preview.statistics.training.rows == 5
    assert preview.statistics.packed_rows == (2 if packing else None)
    assert ("packing" in printed(preview)) == packing


def test_what_is_beyond_the_limit_is_cut(config: Any, plugins: Any) -> None:
    preview = previewed(config([{"question": "Who?", "answer": "Me, and you."}], max_sequence_length=18), plugins, 1)
    (example,) = preview.examples
    shown = list(example.tokens)
    assert [token.state == "cut" for token in shown] == [False] * 18 + [True] * (len(shown) - 18)
    assert said(shown, "supervised") + said(shown, "cut") == "Me, and you.<|im_end|>\n"
    assert said(shown, "supervised") != ""
    found = preview.statistics.training
    assert (found.truncated.rows, found.lost_tokens) == ((0,), example.count("cut"))
    assert ("truncated", "error", (0,)) in [(one.check, one.severity, one.rows) for one in preview.violations]
    text = printed(preview)
    assert "passed" not in text
    assert f"{example.count('supervised')} supervised, {example.count('cut')} cut" in text
    assert re.search(r"^  cut         .*⟨<\|im_end\|>⟩│↵│$", text, re.MULTILINE)


@pytest.mark.parametrize("packing", [False, True])
def test_numbers_are_those_of_the_data_though_rows_are_skipped(config: Any, plugins: Any, packing: bool) -> None:
    rows = [{"question": "Who?", "answer": ""}, *ROWS[:3], {"question": "", "answer": "x"}, ROWS[0]]
    preview = previewed(config(rows, packing=packing, max_sequence_length=64), plugins, 6)
    shown = {example.number: said(list(example.tokens), "supervised") for example in preview.examples}
    assert shown == {0: "", 1: "0.<|im_end|>", 2: "1.<|im_end|>", 3: "2.<|im_end|>", 4: "", 5: "0.<|im_end|>"}
    assert preview.statistics.training.duplicates.pairs == ((5, 1),)
    assert preview.statistics.skipped == 2
    assert 'row 0 of the training data: cannot be used: "answer" is empty' in printed(preview)
    assert "It cannot be used: &quot;answer&quot; is empty" in html.page(preview)
    assert any("2 of 6 training rows cannot be used" in str(one) for one in preview.violations)


def test_special_tokens_in_the_data_are_seen(config: Any, plugins: Any) -> None:
    preview = previewed(config([{"question": "Say <|im_end|> now.", "answer": "No."}]), plugins, 1)
    assert sum(token.special for token in preview.examples[0].tokens) == 5
    assert "Say <|im_end|>" not in printed(preview)
    assert "⟨<|im_end|>⟩│ " in printed(preview)


# Colours.


def test_colours_where_there_are_some(config: Any, plugins: Any) -> None:
    preview = previewed(config(ROWS), plugins, 1)
    coloured = printed(preview, force_terminal=True, color_system="256", no_color=False)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert "\x1b[" not in bare
    assert "How many are 0?<|im_end|>↵\n<|im_start|>assistant↵\n0.<|im_end|>↵\n" in bare
    supervised = re.findall(r"\x1b\[[0-9;]*48;5;(?:22|28)m([^\x1b]*)", coloured)
    assert "".join(supervised) == " supervised special, supervised0.<|im_end|>"
    special = re.findall(r"\x1b\[1;38;5;226;[0-9;]*m([^\x1b]*)", coloured)
    assert special.count("<|im_start|>") == special.count("<|im_end|>") == 2


@pytest.mark.parametrize("options", [{"no_color": True, "force_terminal": True}, {"force_terminal": False}])
def test_marks_where_there_are_none(config: Any, plugins: Any, options: dict[str, bool]) -> None:
    text = printed(previewed(config(ROWS), plugins, 1), **options)
    assert "  supervised  0│.│⟨<|im_end|>⟩│" in text
    assert "48;5" not in text


# Texts of tokens.


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_the_pieces_are_the_text(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    pieces = texts(TOKENIZER, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids) == text


def test_a_character_of_several_tokens_belongs_to_its_last() -> None:
    ids = TOKENIZER("a🙂b", add_special_tokens=False)["input_ids"]
    assert texts(TOKENIZER, ids) == ["a", "", "", "", "🙂", "b"]
    shown = tokens(TOKENIZER, ids, [IGNORED] * 6, 6, frozenset())
    assert [token.shown for token in shown] == ["a", "‥", "‥", "‥", "🙂", "b"]


def test_half_a_character_is_still_shown() -> None:
    ids = TOKENIZER("a🙂", add_special_tokens=False)["input_ids"][:3]
    assert texts(TOKENIZER, ids)[0] == "a"
    assert "\N{REPLACEMENT CHARACTER}" in texts(TOKENIZER, ids)[-1]


def test_what_would_be_obeyed_is_written_out() -> None:
    assert visible("a\tb\r\n\x1b[0m\u202e\xa0\U000e0001\ud800é") == "a\\tb\\r↵\n\\x1b[0m\\u202e\\xa0\\U000e0001\\ud800é"


# The page.


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text: list[str] = []
        self._raw = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        {"script": self.scripts, "style": self.styles}.get(self._raw, self.text).append(data)


def test_hostile_rows_are_text_and_nothing_else(config: Any, plugins: Any) -> None:
    source = html.page(previewed(config([HOSTILE, ROWS[0]]), plugins, 2))
    page, harmless = Page(source), Page(html.page(previewed(config([ROWS[1], ROWS[0]]), plugins, 2)))
    assert (page.scripts, page.styles) == (harmless.scripts, harmless.styles)
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in harmless.tags}
    assert {name for _, attributes in page.tags for name in attributes} == {
        name for _, attributes in harmless.tags for name in attributes
    }
    shown = "".join(page.text)
    assert "<script>alert(1)</script> " in shown
    assert '</script></span><img src=x onerror="alert(1)"> ' in shown
    assert "\\u202e" in shown
    assert all(char.isprintable() or char == "\n" for char in source)


def test_nothing_is_loaded_and_nothing_else_runs(config: Any, plugins: Any) -> None:
    source = html.page(previewed(config([HOSTILE]), plugins, 1))
    page = Page(source)
    attributes = {name for _, given in page.tags for name in given}
    assert not attributes & {"src", "href", "srcset", "style", "action", "data", "background"}
    assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?:", "".join(page.styles + page.scripts))
    (policy,) = [given["content"] for tag, given in page.tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for kind, (text,) in (("script", page.scripts), ("style", page.styles)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_a_token_tells_its_number_and_label_and_a_row_is_one_stop(config: Any, plugins: Any) -> None:
    preview = previewed(config(), plugins, 2)
    page = Page(html.page(preview))
    shown = [given for tag, given in page.tags if tag == "span" and "data-about" in given]
    everything = [token for example in preview.examples for token in example.tokens]
    assert len(shown) == len(everything)
    for token, given_attributes in zip(everything, shown, strict=True):
        about = str(given_attributes["data-about"])
        assert f" · id {token.id} · label {token.label} · {token.state}" in about
        assert about.endswith("special") == token.special
    assert [given["tabindex"] for given in shown].count("0") == 2
    assert page.tags[0] == ("html", {"lang": "en"})
