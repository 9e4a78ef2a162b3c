"""``llms.txt`` and ``llms-full.txt``: what pages there are with their first sentences, and all their text in one file.

The form is that of llmstxt.org. Links are relative, because the site may be anywhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_content


def first_sentence(doctree: nodes.document) -> str:
    """Return the first sentence of a page's text."""
    for paragraph in doctree.findall(nodes.paragraph):
        is_figure = all(isinstance(child, nodes.image) for child in paragraph.children)
        if isinstance(paragraph.parent, nodes.section | desc_content) and not is_figure:
            text = " ".join(paragraph.astext().split())
            return re.split(r"(?<=[.:?!]) (?=[A-Z`])", text)[0].rstrip(":")
    return ""


def section_of(env: Any, docname: str) -> str:
    """Title of the part of the site that a page belongs to."""
    parents = {child: parent for parent, children in env.toctree_includes.items() for child in children}
    while parents.get(docname, env.config.root_doc) != env.config.root_doc:
        docname = parents[docname]
    return env.titles[docname].astext()


def in_order(env: Any, docname: str) -> list[str]:
    """List a page and all below it, in the order of the tables of contents."""
    below = [page for child in env.toctree_includes.get(docname, []) for page in in_order(env, child)]
    return [docname, *below]


def whole_text(env: Any, docname: str) -> str:
    """Return the text of a page: in Markdown as it is written, else what it says."""
    path = Path(env.doc2path(docname))
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    title, text = env.titles[docname].astext(), env.get_doctree(docname).astext()
    return f"# {title}\n\n{text.strip().removeprefix(title).strip()}\n"


def write_texts(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    env, root = app.env, app.config.root_doc
    pages = list(dict.fromkeys(in_order(env, root)))
    doctrees = {page: env.get_doctree(page) for page in pages}
    lines, section = [f"# {app.config.project}", "", f"> {first_sentence(doctrees[root])}"], None
    for page in pages[1:]:
        if section_of(env, page) != section:
            section = section_of(env, page)
            lines += ["", f"## {section}", ""]
        said = first_sentence(doctrees[page])
        lines.append(f"- [{env.titles[page].astext()}]({page}.html){': ' if said else ''}{said}")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    full = "\n".join(whole_text(env, page) for page in pages[1:])
    Path(app.outdir, "llms-full.txt").write_text(full, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
