"""Hooks of mkdocs: documents outside of docs/ become pages; links lead to pages or to the repository.

The documents link to each other as files of the repository, so that they can be read there. On the site,
a link to a page leads to the page, and a link to any other file to that file in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent
PAGES = {
    "README.md": "index.md",
    "clients/js/README.md": "npm.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Documents of the repository outside of docs/, and the pages that they become."""
SOURCES = {page: source for source, page in PAGES.items()}
FENCE = re.compile(r"^(\s*```\w+) .*$", re.MULTILINE)
"""A code block's first line with more than a language: what follows is for the tests of the documents."""
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/; a page that `nav` does not name is listed under More."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    others = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri not in named)
    if others:
        config.nav.append({"More": others})
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links of a page; of code blocks only the first line is changed."""
    markdown = FENCE.sub(r"\1", markdown)
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    parts = re.split(r"(^```.*?^```\s*$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part
        if part.startswith("```")
        else LINK.sub(lambda found: _link(found, source, here, config, files), part)
        for part in parts
    )


def _link(found: re.Match[str], source: str, here: str, config: Any, files: Files) -> str:
    """A link of the document `source`, for the page `here`."""
    before, link, after = found.groups()
    if "://" in link or link.startswith("mailto:"):
        return found[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    page = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
    if (
        page is not None
        and files.get_file_from_path(page) is None
        and (ROOT / target / "README.md").is_file()
    ):
        page = f"{page}/README.md"
    if page is not None and files.get_file_from_path(page) is not None:
        return f"{before}{posixpath.relpath(page, posixpath.dirname(here) or '.')}{after}"
    assert (ROOT / target).exists(), f"{source} links to {target}, which does not exist"
    kind = "tree" if (ROOT / target).is_dir() else "blob"
    return f"{before}{config['repo_url'].rstrip('/')}/{kind}/main/{target}{after}"
