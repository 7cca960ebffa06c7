"""The preview as one web page that needs nothing else: opened from a disk, without a network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path

from ftcore.errors import ConfigError
from ftcore.preview.facts import Fact, of_all, of_audit, of_split
from ftcore.preview.gather import Example, Preview
from ftcore.preview.tokens import Token, visible
from ftcore.statistics import Bar


def write(preview: Preview, path: Path) -> None:
    """Write the page.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        path.write_text(page(preview), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the page cannot be written to {path}", why=error.strerror or str(error), fix="Choose another --html"
        ) from error


def page(preview: Preview) -> str:
    """The whole page.

    All text of the user is escaped, and a policy in the page's head forbids the browser to run or to load anything but
    the page's own style and script.
    """
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    body = "\n".join(_body(preview))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_text(preview.config)} – ftcore preview</title>
<style>{style}</style>
</head>
<body>
{body}
<output id="said" aria-live="polite"></output>
<script>{script}</script>
</body>
</html>
"""


def _hash(source: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _body(preview: Preview) -> Iterator[str]:
    yield f"<header><h1>{_text(preview.config)}</h1><p>What {_text(preview.model)} would be trained on.</p></header>"
    yield "<main>"
    for said in preview.said:
        yield f"<p>{_text(said)}</p>"
    for warning in preview.warnings:
        yield f'<p class="warning">Warning: {_text(warning)}</p>'
    if preview.examples:
        yield _LEGEND
    for example in preview.examples:
        yield from _example(example, preview)
    yield "<h2>Statistics</h2>"
    found = preview.statistics
    yield from _table("Training data", of_split(found.training, preview.limit, found.skipped))
    yield from _histogram("training", found.training.lengths.histogram)
    if found.validation is not None:
        yield from _table("Validation data", of_split(found.validation, preview.limit))
        yield from _histogram("validation", found.validation.lengths.histogram)
    yield from _table("The run", of_all(preview))
    yield from _table("The audit", of_audit(preview))
    yield "</main>"


_LEGEND = """<p class="legend"><span class="t supervised">supervised</span> is learned,
<span class="t masked">masked</span> is only read, <span class="t cut">cut</span> is beyond the limit,
<span class="t masked special">special</span> means something to the model; ↵ is a line break, ‥ a part of a character.
Point at a token to see its number and label, or go to a row with Tab and through its tokens with the arrow keys.</p>"""


def _example(example: Example, preview: Preview) -> Iterator[str]:
    yield f'<section><h2 id="row-{example.number}">Row {example.number} <small>of the {preview.purpose} data</small></h2>'
    if not example.tokens:
        yield f'<p class="warning">It cannot be used: {_text(example.reason or "it has no tokens")}</p></section>'
        return
    counts = [f"{len(example.tokens):,} tokens", f"{example.count('supervised'):,} supervised"]
    if example.count("cut"):
        counts.append(f"{example.count('cut'):,} cut")
    yield f"<p>{', '.join(counts)}</p>"
    # No white space between the spans: it would be shown.
    spans = "".join(_token(index, token) for index, token in enumerate(example.tokens))
    yield f'<div class="tokens" role="group" aria-labelledby="row-{example.number}">{spans}</div></section>'


def _token(index: int, token: Token) -> str:
    kind = f"{token.state} special" if token.special else token.state
    focus = 0 if index == 0 else -1
    about = f"token {index} · id {token.id} · label {token.label if token.state != 'cut' else 'none'} · {kind}"
    # The text stands in an element of its own, so that its direction of writing does not reach its neighbours.
    return f'<span class="t {kind}" tabindex="{focus}" data-about="{about}"><bdi>{escape(token.shown)}</bdi></span>'


def _table(title: str, facts: Iterable[Fact]) -> Iterator[str]:
    yield f"<table><caption>{title}</caption><tbody>"
    for fact in facts:
        odd = ' class="odd"' if fact.odd else ""
        yield f'<tr{odd}><th scope="row">{_text(fact.name)}</th><td>{_text(fact.value)}</td></tr>'
    yield "</tbody></table>"


def _histogram(purpose: str, bars: Iterable[Bar]) -> Iterator[str]:
    shown = list(bars)
    if not shown:
        return
    highest = max(bar.rows for bar in shown)
    yield f'<table class="histogram"><caption>Lengths of the {purpose} data</caption>'
    yield '<thead><tr><th scope="col">tokens</th><th scope="col">rows</th></tr></thead><tbody>'
    for bar in shown:
        width = max(300 * bar.rows / highest, 1 if bar.rows else 0)
        span = f"{bar.first:,}–{bar.last:,}" if bar.last > bar.first else f"{bar.first:,}"
        drawn = f'<svg width="300" height="12" aria-hidden="true"><rect width="{width:.1f}" height="12"/></svg>'
        yield f'<tr><th scope="row">{span}</th><td>{drawn} {bar.rows:,}</td></tr>'
    yield "</tbody></table>"


def _text(text: str) -> str:
    return escape(visible(text))
