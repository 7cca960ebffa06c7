"""The documentation as a site: it builds without a warning, every page is in its navigation, nothing comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from doc_pages import DOCS, ROOT

pytest.importorskip("mkdocs")
pytestmark = pytest.mark.xdist_group("site")  # which is built once


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: what leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


class Found(HTMLParser):
    """The ids, links and loaded files of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.ids |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a":
            self.links.append(values.get("href", ""))
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(values.get("href", ""))
        elif "src" in values:
            self.loaded.append(values["src"])


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    pages = {page: Found(page) for page in site.rglob("*.html")}
    assert len(pages) > 20
    broken = []
    for page, found in pages.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for file in Found(page).loaded:
            assert not urlsplit(file).netloc, f"{page.name} loads {file}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(set(shown))
    assert [page.name for page in DOCS.rglob("*.md") if page.relative_to(DOCS).as_posix() not in shown] == []


def test_a_page_has_one_title(site: Path) -> None:
    """The list of a page's contents leaves out what stands below a second one."""
    titles = {page: page.read_text(encoding="utf-8").count("<h1") for page in site.rglob("*.html")}
    assert [page.name for page, count in titles.items() if count != 1] == []


def test_pages_from_outside_of_the_folder_are_there(site: Path) -> None:
    examples = [readme.parent.name for readme in ROOT.glob("examples/*/README.md")]
    assert examples
    wanted = ["contributing.html", "changelog.html", *(f"examples/{example}.html" for example in examples)]
    assert [page for page in wanted if not (site / page).exists()] == []
