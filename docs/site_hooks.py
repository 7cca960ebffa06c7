"""What mkdocs does besides building the pages of this folder.

- `CONTRIBUTING.md`, `CHANGELOG.md` and the READMEs of `examples/` become pages too.
- Links are written as they work in the repository. Those between pages are turned into links of the site; what is not
  on the site (a folder, a script) is named instead.
- The headings of the hook reference get short names, and the drawing of a run's life becomes part of its page, so that
  it follows the colours.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")
HOOK = re.compile(r'^<a id="(?P<name>ftcore_\w+)"></a>\n\n## (?P<signature>.+)$', re.MULTILINE)


def outside() -> dict[str, str]:
    """The pages that do not lie in `docs/`, by their path in the repository."""
    pages = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    for readme in sorted(ROOT.glob("examples/*/README.md")):
        pages[readme.relative_to(ROOT).as_posix()] = f"examples/{readme.parent.name}.md"
    return pages


def on_config(config: Any) -> Any:
    """Put the examples into the navigation."""
    examples = [{Path(page).stem: page} for page in outside().values() if page.startswith("examples/")]
    for entry in config["nav"]:
        if "Examples" in entry:
            entry["Examples"] = examples
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside."""
    for source, page in outside().items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make the text of a page in the repository one of the site."""
    uri = page.file.src_uri
    if uri == "changelog.md":
        page.meta["search"] = {"exclude": True}  # it would be found for every word
    if uri.startswith("how-to/"):
        page.meta["hide"] = ["toc"]  # three headings, and code that wants the room
    if uri == "hooks.md":
        markdown = HOOK.sub(r'## `\g<signature>` { #\g<name> data-toc-label="\g<name>" }', markdown)
    if uri == "life.md":
        drawing = (ROOT / "docs" / "life.svg").read_text(encoding="utf-8")
        markdown = re.sub(r"!\[[^\]]*\]\(life\.svg\)", lambda _: f'<div class="life">\n{drawing}</div>', markdown)
    return _outside_fences(markdown, lambda text: LINK.sub(lambda match: _link(match, uri), text))


def _outside_fences(markdown: str, change: Any) -> str:
    """Change a text, but not its code blocks."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def _link(match: re.Match[str], uri: str) -> str:
    """A link of the repository as one of the site."""
    text, target, anchor = match["text"], match["target"], match["anchor"] or ""
    if not target or "://" in target or target.startswith("mailto:"):
        return match[0]
    pages = outside()
    here = next((source for source, page in pages.items() if page == uri), f"docs/{uri}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    page = pages.get(path) or pages.get(f"{path}/README.md") or path.removeprefix("docs/")
    if path == "README.md":
        page = "index.md"
    elif page == path and not path.startswith("docs/"):  # no page of the site
        plain = text.strip("`")
        return f"`{path}`" if plain in (path, target, posixpath.basename(path)) else f"{text} (`{path}` in the source)"
    return f"[{text}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{anchor})"
