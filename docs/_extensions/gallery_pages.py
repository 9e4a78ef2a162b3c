"""The gallery: each example has a page with its figure, and the gallery's own page has small images of all.

Examples are not run when the site is built. Tests run each of them at a smaller size, and ``tools/draw_gallery.py``
draws the figures in full, so that every build shows the same and takes seconds.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
FIGURE = re.compile(r"sphinx_gallery_thumbnail_path = ['\"](.+)['\"]")
GRID = """
```{eval-rst}
.. minigallery:: ../examples/*.py

.. toctree::
   :hidden:
   :glob:

   gallery/*
```
"""


def with_grid(text: str) -> str:
    """Put small images of all examples below the introduction of the gallery's page."""
    return text.replace("\n## ", f"{GRID}\n## ", 1)


def with_title(text: str, code: str) -> str:
    """Head the page of an example whose docstring has no title by its first words, up to a colon or a mark."""
    first, second, *_ = [*(ast.get_docstring(ast.parse(code)) or "").splitlines(), "", ""]
    if set(second) == {"="}:
        return text
    title = re.split(r"(?<=\?) |[:.](?: |$)", first)[0]
    return text.replace(first, f"{title}\n{'=' * len(title)}\n\n{first}", 1)


def with_figure(text: str, code: str, example: str) -> str:
    """Put the figure of an example before its code."""
    figure = FIGURE.search(code)
    if figure is None:
        return text
    image = f".. image:: /{figure[1]}\n   :alt: What {example}.py draws\n\n"
    return re.sub(r"^\.\. GENERATED FROM PYTHON SOURCE LINES", lambda mark: image + mark[0], text, flags=re.M)


def add_images(app: Any, docname: str, source: list[str]) -> None:
    if docname == "gallery":
        source[0] = with_grid(source[0])
    elif docname.startswith("gallery/"):
        example = docname.removeprefix("gallery/")
        code = (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")
        source[0] = with_figure(with_title(source[0], code), code, example)


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", add_images)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
