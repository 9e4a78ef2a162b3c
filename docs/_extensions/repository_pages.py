"""Pages for Markdown files of the repository that stand outside of the documentation, and links that hold in both.

A link in a page is written for the repository, where a code host resolves it. The site has the same files at other
places, so each relative link is rewritten when its page is read.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[2]
# folder of the site, for which git ignores what is copied there
COPIES = "repository"
# code, which stays as it is; or the target and the anchor of [text](target#anchor), where it is relative
CODE_OR_LINK = re.compile(r"```.*?```|`[^`\n]+`|(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))", flags=re.DOTALL)

# what a code host needs to link to a paragraph, and what MyST has for it
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>', flags=re.MULTILINE)


def copied() -> list[str]:
    """Files of the repository that become pages, and the images that these show."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "benchmarks").glob("*.png")]
    return sorted(path.relative_to(ROOT).as_posix() for path in pages)


def place_in_site(file: str) -> str:
    """Where a file of the repository is, relative to the folder of the documentation."""
    path = PurePosixPath(file)
    if path.parts[0] == "docs":
        return path.relative_to("docs").as_posix()
    if path.parts[0] == "examples" and path.suffix == ".py":
        return f"gallery/{path.stem}.rst"
    return f"{COPIES}/{file}" if file in copied() else f"../{file}"


def place_in_repository(page: str) -> str:
    """Which file of the repository a page of the site is."""
    return page.removeprefix(f"{COPIES}/") if page.startswith(f"{COPIES}/") else f"docs/{page}"


def with_links_of_the_site(text: str, page: str) -> str:
    """Rewrite relative links of a page, given by its place in the site."""
    file = place_in_repository(page)

    def rewritten(match: re.Match) -> str:
        if match[1] is None:
            return match[0]
        target = os.path.normpath(os.path.join(os.path.dirname(file), match[1]))
        return os.path.relpath(place_in_site(target), os.path.dirname(page)) + (match[2] or "")

    return CODE_OR_LINK.sub(rewritten, ANCHOR.sub(r"(\1)=\n", text))


def copy_pages(app: Any) -> None:
    """Copy what has changed, so that a second build reads only that."""
    folder = Path(app.srcdir) / COPIES
    for file in copied():
        copy = folder / file
        if not copy.is_file() or copy.read_bytes() != (ROOT / file).read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, copy)


def rewrite_links(app: Any, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname)).relative_to(app.srcdir).as_posix()
    if page.endswith(".md"):
        source[0] = with_links_of_the_site(source[0], page)


def leave_tables_out_of_the_search(app: Any, doctree: Any) -> None:
    """Keep the tables of the benchmarks from standing above the pages that say what follows from them."""
    if app.env.docname.startswith(f"{COPIES}/benchmarks/"):
        app.env.metadata[app.env.docname]["nosearch"] = "true"


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", copy_pages)
    app.connect("source-read", rewrite_links)
    app.connect("doctree-read", leave_tables_out_of_the_search)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
