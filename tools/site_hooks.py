"""What mkdocs needs to know of files outside docs/: pages may link to them, and the site must have them.

mkdocs calls `on_files` and `on_page_markdown` (mkdocs.yml, `hooks`). Each file of the project that a page
links to becomes part of the site under `project/`: Markdown as a page, a folder as a page that shows its
files, others as a page with their text. The links are turned there. `tools/check_docs.py` checks them as they
stand in the repository, where they lead to the files themselves. It must never write into docs/.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FOLDER = "project"
"""Where the site has what is outside docs/."""
TARGET = re.compile(r"(?<=\]\()([^()\s#]+)((?:#[^()\s]*)?)(?=\))")
TOP = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
"""Pages at the top of the project that are in the navigation."""
KINDS = {".cfg": "", ".json": "json", ".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml"}


def _source(uri: str) -> Path:
    """Give the path in the project of a page of the site."""
    if uri.startswith(f"{FOLDER}/"):
        return ROOT / uri.removeprefix(f"{FOLDER}/")
    return DOCS / uri


def _page_of(path: Path) -> str:
    """Give the site's name for the page about a file or folder outside docs/."""
    name = path.relative_to(ROOT).as_posix()
    return f"{FOLDER}/{name}" if name.endswith(".md") else f"{FOLDER}/{name}.md"


def _turned(text: str, uri: str, found: set[Path]) -> str:
    """Turn links that leave docs/ to the pages that stand for their targets; collect those targets."""
    source = _source(uri)

    def turn(match: re.Match[str]) -> str:
        target, fragment = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (source.parent / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]  # mkdocs says that it leads nowhere
        if path.is_relative_to(DOCS):
            wanted = path.relative_to(DOCS).as_posix()
            wanted = f"{wanted}/README.md" if path.is_dir() else wanted
        else:
            found.add(path)
            wanted = _page_of(path)
        return posixpath.relpath(wanted, posixpath.dirname(uri) or ".") + fragment

    return TARGET.sub(turn, text)


def _shown(path: Path) -> str:
    """Give the text of the page about a file, or about the files of a folder."""
    name = path.relative_to(ROOT).as_posix()
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    parts = [f"# {name}", ""]
    for file in files:
        if path.is_dir():
            parts += [f"## {file.relative_to(path).as_posix()}", ""]
        parts += [f"~~~~{KINDS.get(file.suffix, '')}", file.read_text("utf-8").rstrip("\n"), "~~~~", ""]
    return "\n".join(parts)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages about what is outside docs/ and linked to."""
    waiting = {ROOT / name for name in TOP}
    for file in files.documentation_pages():
        _turned((DOCS / file.src_uri).read_text("utf-8"), file.src_uri, waiting)
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        done.add(path)
        uri = _page_of(path)
        if path.suffix == ".md":
            text = path.read_text("utf-8")
            found: set[Path] = set()
            _turned(text, uri, found)
            waiting |= found - done
        else:
            text = _shown(path)
        made = File.generated(config, uri, content=text)
        if path.name not in TOP:
            made.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(made)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn the links of a page."""
    uri: str = page.file.src_uri
    if uri.startswith(f"{FOLDER}/") and not _source(uri).is_file():
        return markdown  # the text of a file that is no Markdown
    return _turned(markdown, uri, set())
