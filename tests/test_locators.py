"""Ids of models and datasets."""

from __future__ import annotations

import pytest

from ftcore import locators
from ftcore.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "prefix", "rest"),
    [
        ("smollm2:135m-instruct", "smollm2", "135m-instruct"),
        ("acme:tickets/2026-10", "acme", "tickets/2026-10"),
        ("a_b-2:x:y", "a_b-2", "x:y"),
        ("user/model", "", "user/model"),
        ("./a:b", "", "./a:b"),
        ("C:\\data\\x.jsonl", "", "C:\\data\\x.jsonl"),
        ("s3://bucket/key", "", "s3://bucket/key"),
        (":x", "", ":x"),
        ("ä1:x", "", "ä1:x"),
        ("", "", ""),
    ],
)
def test_the_prefix_is_a_plugins_name(text: str, prefix: str, rest: str) -> None:
    assert locators.split_prefix(text) == (prefix, rest)


def test_options_are_read() -> None:
    locator = locators.parse("hf:user/data?name=main&split=train%5B%3A10%25%5D&empty=")
    assert locator.text == "hf:user/data?name=main&split=train%5B%3A10%25%5D&empty="
    assert locator.path == "user/data"
    assert locator.options == {"name": "main", "split": "train[:10%]", "empty": ""}
    assert locators.parse("data.jsonl").options == {}


@pytest.mark.parametrize("text", ["d?", "d?split", "d?a=1&a=2", "?a=1", "acme:?a=1", "d?=1&&"])
def test_options_that_are_no_pairs_are_an_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        locators.parse(text)
    assert str(caught.value) == (
        f'the id "{text}" cannot be read: behind the question mark stand options like split=train, each once, '
        "joined by &. Write it as path?option=value&option=value"
    )
