"""Names of public objects become links: in docstrings by a single backtick, in pages wherever they stand as code."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

# as code names an object: L2RCLIPClassifier, L2RCLIPClassifier.fit, metrics.ordinality, find_duplicates(...)
NAME = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", flags=re.DOTALL)


def documented(env: Any) -> dict[str, Any]:
    """Find every documented object by what it is called in text: its full name, or the name without its modules.

    A module is called by its full name alone: `datasets` is another library.
    """
    objects = env.domains.python_domain.objects
    modules = {name for name, entry in objects.items() if entry.objtype == "module"}
    found = dict(objects)
    for name, entry in objects.items():
        for module in modules - {name}:
            if name.startswith(f"{module}.") and name not in modules:
                found.setdefault(name.removeprefix(f"{module}."), entry)
    return found


def link_to(app: Any, fromdocname: str, entry: Any, content: Any) -> Any:
    return make_refnode(app.builder, fromdocname, entry.docname, entry.node_id, content)


def resolve_by_short_name(app: Any, env: Any, node: pending_xref, content: Any) -> Any:
    """Link what Sphinx does not find by its full name; what is not ours stays code."""
    if node.get("refdomain") != "py":
        return None
    entry = documented(env).get(node["reftarget"].lstrip("."))
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
