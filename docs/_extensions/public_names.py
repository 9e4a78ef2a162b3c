"""Names of public objects become links: in docstrings by a single backtick, in pages wherever they stand as code."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

# L2RCLIPClassifier, L2RCLIPClassifier.fit, find_duplicates(...), skl2rclip.metrics, metrics.ordinality
NAME = re.compile(r"(?:skl2rclip\.)?([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", flags=re.DOTALL)


def documented(env: Any) -> dict[str, Any]:
    """Find every documented object by what it is called in text: with its module, without it, and without the root."""
    objects = env.domains.python_domain.objects
    # of an error that is reached by two modules, one page
    found = {name.removeprefix("skl2rclip."): entry for name, entry in objects.items()}
    of_modules = {name for name, entry in objects.items() if entry.objtype == "module"}
    for name, entry in objects.items():
        for module in of_modules:
            if name.startswith(f"{module}.") and name not in of_modules:
                found.setdefault(name.removeprefix(f"{module}."), entry)
    return found


def link_to(app: Any, fromdocname: str, entry: Any, content: Any) -> Any:
    return make_refnode(app.builder, fromdocname, entry.docname, entry.node_id, content)


def resolve_by_short_name(app: Any, env: Any, node: pending_xref, content: Any) -> Any:
    """Link what Sphinx does not find by its full name; what is not ours stays code."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].lstrip(".").removeprefix("skl2rclip.")
    within = node.get("py:class")
    names = documented(env)
    entry = names.get(f"{within}.{name}", None) if within else None
    entry = entry or names.get(name)
    return content if entry is None else link_to(app, node["refdoc"], entry, content)


class LinkCodeInPages(SphinxPostTransform):
    """Link inline code of a page that is the name of a public object."""

    default_priority = 400

    def run(self, **keywords: Any) -> None:
        env = self.env
        docname = env.docname
        if not str(env.doc2path(docname)).endswith(".md") or self.app.builder.format != "html":
            return
        names = documented(env)
        for literal in list(self.document.findall(nodes.literal)):
            match = NAME.fullmatch(literal.astext())
            entry = names.get(match[1]) if match else None
            if entry is None or isinstance(literal.parent, nodes.reference | nodes.title):
                continue
            literal.replace_self(link_to(self.app, docname, entry, literal.deepcopy()))


def is_inherited(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn and Python give to every estimator and exception."""
    owner = getattr(obj, "__objclass__", obj)
    return True if str(getattr(owner, "__module__", "")).partition(".")[0] in ("builtins", "sklearn") else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-skip-member", is_inherited)
    app.connect("missing-reference", resolve_by_short_name)
    app.add_post_transform(LinkCodeInPages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
