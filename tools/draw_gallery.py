"""Run the examples in full, and keep their figures for README.md and docs/gallery.md.

Run it with ``python tools/draw_gallery.py``; it takes a few minutes, and what ``pip install ".[gallery]"`` installs.
With names of examples (``graded_photographs``) only these are run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images" / "gallery"
# figures of each example by the names that they have in the documentation
FIGURES = {
    "graded_photographs": {"overview.png": "overview.png", "largest-errors.png": "largest-errors.png"},
    "how_many_images": {"learning-curves.png": "learning-curves.png"},
    "mislabelled": {"suspects.png": "suspects.png"},
    "intervals_with_a_guarantee": {"coverage.png": "intervals.png"},
    "what_the_prompt_does": {"prompts.png": "prompts.png"},
    "copies_and_leaks": {"copies.png": "copies.png"},
    "decisions_at_a_rank": {"decisions.png": "decisions.png"},
    "cases_and_raters": {"cases-and-raters.png": "cases-and-raters.png"},
    "where_it_looked": {"where-it-looked.png": "where-it-looked.png"},
    "unusual_images": {"unusual-images.png": "unusual-images.png"},
}


def run(example: str, folder: Path) -> float:
    """Run an example with its own defaults, and return how long it took, in seconds."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), "--folder", str(folder)]
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def shrink(drawn: Path, kept: Path) -> None:
    """Write an image with 128 colours, which plots and thumbnails do with."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(128).save(kept, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", nargs="*", default=list(FIGURES), help="which; by default all")
    options = parser.parse_args()
    for example in options.examples:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n{example} took {run(example, Path(folder)):.0f} s")
            for drawn, kept in FIGURES[example].items():
                shrink(Path(folder) / drawn, FOLDER / kept)
                print(f"{FOLDER / kept} ({(FOLDER / kept).stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
