"""The preview in a terminal: colours where there are some, marks and margins where not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from ftcore.preview.facts import Fact, of_all, of_audit, of_split
from ftcore.preview.gather import Example, Preview
from ftcore.preview.tokens import Token, visible
from ftcore.statistics import Bar

# Two shades of each, by turns, so that one sees where a token ends.
_SHADES = {
    "supervised": ("white on color(22)", "white on color(28)"),
    "masked": ("color(252) on color(236)", "color(252) on color(239)"),
    "cut": ("strike white on color(52)", "strike white on color(88)"),
}
_SPECIAL = "bold color(226)"
_MARGIN = 12
_WIDEST_BAR = 40


def show(preview: Preview, console: Console, rows: bool = True) -> None:
    """Print a preview.

    Args:
        console: decides whether there are colours (a terminal, `NO_COLOR` unset).
        rows: whether to print the examples before the statistics.
    """
    coloured = console.is_terminal and not console.no_color and console.color_system is not None
    for line in _lines(preview, coloured, rows):
        console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)


def _lines(preview: Preview, coloured: bool, rows: bool) -> Iterator[Text]:
    for said in preview.said:
        yield Text(visible(said))
    if rows and preview.examples:
        yield from _legend(coloured)
        for example in preview.examples:
            yield Text()
            yield _title(example, preview)
            if example.tokens:
                yield from [_coloured(example.tokens)] if coloured else _marked(example.tokens)
        yield Text()
    found = preview.statistics
    yield from _table("training data", list(of_split(found.training, preview.limit, found.skipped)))
    yield from _histogram(found.training.lengths.histogram)
    if found.validation is not None:
        yield from _table("validation data", list(of_split(found.validation, preview.limit)))
        yield from _histogram(found.validation.lengths.histogram)
    yield from _table("the run", list(of_all(preview)))
    yield from _table("the audit", list(of_audit(preview)))


def _legend(coloured: bool) -> Iterator[Text]:
    if not coloured:
        yield Text("Each token ends at │; ⟨…⟩ is a special token; ↵ a line break; ‥ a part of a character.")
        yield Text("The margin says what training makes of the tokens: supervised, masked, or cut off at the limit.")
        return
    legend = Text("Tokens:  ")
    for state, shades in _SHADES.items():
        legend.append(f" {state} ", shades[0]).append("  ")
    legend.append(" special ", f"{_SHADES['masked'][0]} {_SPECIAL}").append(" ")
    legend.append("special, supervised", f"{_SHADES['supervised'][0]} {_SPECIAL}")
    yield legend


def _title(example: Example, preview: Preview) -> Text:
    title = Text(f"row {example.number}", "bold")
    title.append(f" of the {preview.purpose} data", "not bold")
    if not example.tokens:
        return title.append(f": cannot be used: {visible(example.reason or 'it has no tokens')}", "not bold")
    counts = f": {len(example.tokens):,} tokens, {example.count('supervised'):,} supervised"
    cut = example.count("cut")
    return title.append(counts + (f", {cut:,} cut" if cut else ""), "not bold")


def _coloured(tokens: Sequence[Token]) -> Text:
    text = Text()
    for index, token in enumerate(tokens):
        style = _SHADES[token.state][index % 2]
        text.append(token.shown, f"{style} {_SPECIAL}" if token.special else style)
    return text


def _marked(tokens: Sequence[Token]) -> Iterator[Text]:
    for state, run in groupby(tokens, key=lambda token: token.state):
        text = "".join(f"⟨{token.shown}⟩│" if token.special else f"{_barred(token.shown)}" for token in run)
        margin = f"  {state}".ljust(_MARGIN) + "  "
        for line in text.rstrip("\n").split("\n"):
            yield Text(margin + line)
            margin = " " * len(margin)


def _barred(shown: str) -> str:
    """A token with its border, in front of the line break that it may end with."""
    body = shown.rstrip("\n")
    return f"{body}│{shown[len(body) :]}"


def _table(title: str, facts: Sequence[Fact]) -> Iterator[Text]:
    yield Text(title, "bold")
    width = max(len(fact.name) for fact in facts)
    for fact in facts:
        mark = "!" if fact.odd else " "
        yield Text(f"{mark} {fact.name.ljust(width)}  ").append(visible(fact.value), "yellow" if fact.odd else "")
    yield Text()


def _histogram(bars: Sequence[Bar]) -> Iterator[Text]:
    if not bars:
        return
    highest = max(bar.rows for bar in bars)
    names = [f"{bar.first:,}–{bar.last:,}" if bar.last > bar.first else f"{bar.first:,}" for bar in bars]
    width = max(map(len, names))
    yield Text(f"  {'tokens'.rjust(width)}  rows")
    for name, bar in zip(names, bars, strict=True):
        yield Text(f"  {name.rjust(width)}  ").append(_bar(bar.rows / highest), "cyan").append(f" {bar.rows:,}")
    yield Text()


def _bar(share: float) -> str:
    """A bar of eighths of a character; never empty where there is something."""
    eighths = max(round(share * _WIDEST_BAR * 8), 1 if share else 0)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
