"""Check that every link and anchor in the project's Markdown leads somewhere. Run by `nox -s docs` and by CI.

It owns: reading headings and links out of Markdown, and deciding whether links within the project are good.
It must never open the network: an address outside the project is only checked for being an address.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$")
HTML_ANCHOR = re.compile(r"<a\s+(?:id|name)=[\"']([^\"']+)[\"']")
DEFINITION = re.compile(r"^\s{0,3}\[([^\]^][^\]]*)\]:\s*<?([^\s>]+)>?")
INLINE_CODE = re.compile(r"(`+)(?:(?!\1).)*?\1")
INLINE_LINK = re.compile(
    r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*)>?(?:\s+\"[^\"]*\")?\s*\)"
)
REFERENCE = re.compile(r"\[([^\[\]]+)\]\[([^\[\]]*)\]")
MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*`]|<[^>]+>")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One link that leads nowhere."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Page:
    """What a Markdown file offers to link to, and what it links to."""

    anchors: frozenset[str]
    links: tuple[tuple[int, str], ...]
    undefined: tuple[tuple[int, str], ...]


def slug(heading: str) -> str:
    """Give the anchor that forges make for a heading: no markup, no punctuation, lower case, hyphens."""
    text = MARKUP.sub(r"\1", heading).strip().lower()
    kept = (c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines outside fenced code blocks."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            yield number, line


def read_page(text: str) -> Page:
    """Read the anchors and links of one Markdown text."""
    anchors: set[str] = set()
    links: list[tuple[int, str]] = []
    uses: list[tuple[int, str]] = []
    defined: set[str] = set()
    for number, line in prose_lines(text):
        if heading := HEADING.match(line):
            base = name = slug(heading[1])
            count = 0
            while name in anchors:
                count += 1
                name = f"{base}-{count}"
            anchors.add(name)
        anchors.update(HTML_ANCHOR.findall(line))
        plain = INLINE_CODE.sub("code", line)
        if definition := DEFINITION.match(plain):
            defined.add(definition[1].lower())
            links.append((number, definition[2]))
            continue
        links.extend((number, target) for target in INLINE_LINK.findall(plain))
        uses.extend((number, label or text) for text, label in REFERENCE.findall(plain))
    undefined = tuple((n, label) for n, label in uses if label.lower() not in defined)
    return Page(frozenset(anchors), tuple(links), undefined)


def check(root: Path) -> list[Problem]:
    """Check every Markdown file at the top of the project and under docs/; give the problems in order."""
    root = root.resolve()
    paths = sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])
    pages = {path: read_page(path.read_text("utf-8")) for path in paths}
    problems: list[Problem] = []
    for path, page in pages.items():
        name = path.relative_to(root)
        problems += [Problem(name, n, f"no definition for [{label}]") for n, label in page.undefined]
        for number, target in page.links:
            if message := check_link(root, path, target, pages):
                problems.append(Problem(name, number, message))
    return sorted(problems)


def check_link(root: Path, source: Path, target: str, pages: dict[Path, Page]) -> str | None:
    """Say what is wrong with one link, or None."""
    parts = urlsplit(target)
    if parts.scheme in {"http", "https"}:
        return None if parts.hostname else f"not an address: {target}"
    if parts.scheme == "mailto":
        return None
    if parts.scheme or parts.netloc:
        return f"unexpected kind of link: {target}"
    path = (source.parent / unquote(parts.path)).resolve() if parts.path else source
    if not path.is_relative_to(root):
        return f"leads out of the project: {target}"
    if not path.exists():
        return f"no such file: {target}"
    if parts.fragment and path in pages and unquote(parts.fragment).lower() not in pages[path].anchors:
        return f"no such heading: {target}"
    return None


def main(root: Path = Path()) -> int:
    """Print every problem; 1 when there is one."""
    problems = check(root)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
