"""The pages for people, and what stands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
FENCE = re.compile(
    r'^(?P<indent> *)```(?P<kind>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)
CODE = re.compile(r"(?<!`)`(?P<code>[^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Snippet:
    """A block of code.

    Attributes:
        kind: its language.
        title: the name of the file that it is; "" where it is none.
        body: the code.
    """

    kind: str
    title: str
    body: str


def snippets(page: Path) -> list[Snippet]:
    """The blocks of a page, in their order."""
    return [
        Snippet(
            match["kind"], match["title"] or "", re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        )
        for match in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]


def prose(page: Path) -> str:
    """The text of a page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline(page: Path) -> Iterator[str]:
    """The code in the running text of a page."""
    for match in CODE.finditer(prose(page)):
        yield match["code"].replace(r"\|", "|")


def commands(page: Path) -> list[list[str]]:
    """What is typed in a page's consoles, as words; comments are left out, lines that go on are joined."""
    found = []
    for snippet in snippets(page):
        prompt = {"console": "$ ", "bash": ""}.get(snippet.kind)
        if prompt is not None:
            lines = snippet.body.replace("\\\n", " ").splitlines()
            found += [shlex.split(line[len(prompt) :], comments=True) for line in lines if line.startswith(prompt)]
    return [words for words in found if words]


def name(page: Path) -> str:
    """A page's path, for the names of tests."""
    return page.relative_to(ROOT).as_posix()


def sessions(page: Path) -> list[tuple[str, list[str]]]:
    """What is typed in a page's consoles, each with the lines that are shown below it."""
    found: list[tuple[str, list[str]]] = []
    for snippet in snippets(page):
        for line in snippet.body.splitlines() if snippet.kind == "console" else ():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip():
                found[-1][1].append(line)
    return found
