"""The drawing of a run's life (`life.svg`): what ftcore does on the left, whom it asks on the right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Part = Call = Any  # of life.py, which lies beside this and in no package

_WIDTH = 682
_LEFT = 40
_RIGHT, _RIGHT_WIDTH = 396, 270
_LINE, _CALL = 18, 46
_LETTERS = 48  # of a line of text on the left


def drawing(life: Sequence[Part]) -> str:
    """The text of `life.svg`. Colours come from the page around it, or from the reader's system."""
    parts: list[str] = []
    y = 8
    for number, part in enumerate(life):
        body, height = _part(part, y, number)
        parts += body
        y += height + 24
    hooks_of = "; ".join(
        f"{step.title}: {', '.join(call.name for call in step.calls)}"
        for part in life
        for step in part.steps
        if step.calls
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="group" '
        'aria-labelledby="life-title life-text">\n'
        '<title id="life-title">The life of a run</title>\n'
        f'<desc id="life-text">{escape(hooks_of)}</desc>\n<style>{_STYLE}</style>'
    )
    return "\n".join([head, f'<rect class="life-page" width="{_WIDTH}" height="{y}"/>', *parts, "</svg>"]) + "\n"


def _part(part: Part, top: int, number: int) -> tuple[list[str], int]:
    y = top + 34
    body: list[str] = []
    last = 0
    for index, step in enumerate(part.steps):
        lines = _wrapped(step.text, _LETTERS)
        height = max(34 + _LINE * len(lines), _CALL * len(step.calls)) + 8
        middle = y + 17
        if number < 2:
            body.append(f'<circle class="life-dot" cx="{_LEFT - 14}" cy="{middle}" r="5"/>')
            if index:
                body.append(f'<path class="life-line" d="M{_LEFT - 14} {last + 5}V{middle - 5}"/>')
        last = middle
        body.append(f'<text class="life-step" x="{_LEFT}" y="{middle + 5}">{escape(step.title)}</text>')
        body += [
            f'<text class="life-text" x="{_LEFT}" y="{middle + 5 + _LINE * row}">{escape(line.replace("`", ""))}</text>'
            for row, line in enumerate(lines, 1)
        ]
        for row, call in enumerate(step.calls):
            body += _call(call, y + _CALL * row, middle, row)
        y += height
    height = y - top
    box = f'<rect class="life-part" x="1" y="{top}" width="{_WIDTH - 2}" height="{height}" rx="10"/>'
    title = f'<text class="life-title" x="16" y="{top + 23}">{escape(part.title)}</text>'
    return [box, title, *body], height


def _call(call: Call, y: int, middle: int, row: int) -> list[str]:
    kind = "life-hook" if call.is_hook else "life-method"
    line = f"M{_RIGHT - 16} {middle}H{_RIGHT}" if not row else f"M{_RIGHT - 16} {middle}V{y + 19}H{_RIGHT}"
    return [
        f'<path class="life-line" d="{line}"/>',
        f'<a href="hooks.html#{call.link}"><rect class="{kind}" x="{_RIGHT}" y="{y}" width="{_RIGHT_WIDTH}" height="38" rx="6"/>'
        f'<text class="life-name" x="{_RIGHT + 12}" y="{y + 16}">{escape(call.name)}</text>'
        f'<text class="life-who" x="{_RIGHT + 12}" y="{y + 31}">{escape(call.who)}</text></a>',
    ]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text.replace("`", ""), width)


_STYLE = (
    "svg{--life-page:#fff;--life-ink:#1f2328;--life-soft:#57606a;--life-edge:#d0d7de;--life-part:#f6f8fa;"
    "--life-hook:#dfe4fb;--life-method:#fff;--life-mark:#4051b5}"
    "@media(prefers-color-scheme:dark){svg{--life-page:#0d1117;--life-ink:#e6edf3;--life-soft:#9aa4af;--life-edge:#3d444d;"
    "--life-part:#161b22;--life-hook:#2b3360;--life-method:#0d1117;--life-mark:#93a0f5}}"
    ".life-page{fill:var(--life-page)}.life-part{fill:var(--life-part);stroke:var(--life-edge)}"
    ".life-hook{fill:var(--life-hook);stroke:var(--life-mark)}"
    ".life-method{fill:var(--life-method);stroke:var(--life-edge)}"
    ".life-line{fill:none;stroke:var(--life-mark);stroke-width:1.5}.life-dot{fill:var(--life-mark)}"
    "svg text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--life-ink)}"
    "svg .life-title{font-size:14px;font-weight:600;fill:var(--life-mark)}svg .life-step{font-size:15px;font-weight:600}"
    "svg .life-text{font-size:13px;fill:var(--life-soft)}"
    "svg .life-name{font-size:13px;font-family:ui-monospace,'DejaVu Sans Mono',monospace}"
    "svg .life-who{font-size:12px;fill:var(--life-soft)}"
)
