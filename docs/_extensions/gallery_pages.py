"""The gallery: each example has a page with its figure, and the gallery's own page has small images of all.

Examples are not run when the site is built. Tests run each of them at a smaller size, and ``tools/draw_gallery.py``
draws the figures in full, so that every build shows the same and takes seconds.
"""

from __future__ import annotations

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


def with_figure(text: str, example: str) -> str:
    """Put the figure of an example before its code."""
    figure = FIGURE.search((EXAMPLES / f"{example}.py").read_text(encoding="utf-8"))
    if figure is None:
        return text
    image = f".. image:: /{figure[1]}\n   :alt: What {example}.py draws\n\n"
    return re.sub(r"^\.\. GENERATED FROM PYTHON SOURCE LINES", lambda mark: image + mark[0], text, flags=re.M)


def add_images(app: Any, docname: str, source: list[str]) -> None:
    if docname == "gallery":
        source[0] = with_grid(source[0])
    elif docname.startswith("gallery/"):
        source[0] = with_figure(source[0], docname.removeprefix("gallery/"))


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", add_images)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
