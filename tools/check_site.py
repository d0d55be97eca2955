"""Check the built site: links and anchors in its HTML lead somewhere, and no page loads what is elsewhere.

Run by `nox -s docs` after mkdocs, with the site's folder as its argument. It must never open the network.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "video": "src"}
"""What a browser fetches without being asked, and where the address is."""


@dataclass
class Page(HTMLParser):
    """The ids of a page, where its links lead, and what it loads."""

    ids: set[str] = field(default_factory=set[str])
    links: list[str] = field(default_factory=list[str])
    loaded: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag says."""
        found = dict(attrs)
        self.ids.update(value for name in ("id", "name") if (value := found.get(name)))
        if tag == "a" and (target := found.get("href")):
            self.links.append(target)
        if tag in LOADED and (target := found.get(LOADED[tag])):
            self.loaded.append(target)


def check(site: Path) -> list[str]:
    """Check every page below a folder; give what is wrong, in order."""
    site = site.resolve()
    pages: dict[Path, Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = page = Page()
        page.feed(path.read_text("utf-8"))
        page.close()
    problems: list[str] = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute, since it is shown for any address
        name = path.relative_to(site)
        problems += [f"{name}: loads {target}" for target in page.loaded if urlsplit(target).netloc]
        found = (_problem(site, path, target, pages) for target in [*page.loaded, *page.links])
        problems += [f"{name}: {message}" for message in found if message]
    return problems


def _problem(site: Path, source: Path, target: str, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    path = (source.parent / unquote(parts.path)).resolve() if parts.path else source
    if path.is_dir():
        path /= "index.html"
    if not path.is_relative_to(site) or not path.is_file():
        return f"nothing at {target}"
    fragment = unquote(parts.fragment)
    if fragment and path in pages and fragment not in pages[path].ids:
        return f"no such heading: {target}"
    return None


def main(site: Path) -> int:
    """Print every problem; 1 when there is one, or no page at all."""
    problems = check(site) if (site / "index.html").is_file() else [f"{site} has no index.html"]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
