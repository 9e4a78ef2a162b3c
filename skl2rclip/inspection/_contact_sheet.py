"""What contact sheets share: the tiles, their captions, and the title."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from skl2rclip._images.levels import WhiteLevel
from skl2rclip._ordinal.ranks import default_name
from skl2rclip._utils.arguments import check_integer
from skl2rclip.inspection._drawing import (
    draw_blank,
    panels,
    pyplot,
    short,
    styled,
)
from skl2rclip.inspection._responses import Response, as_sequence, response_of
from skl2rclip.inspection._thumbnails import Thumbnail, check_pictures, white_of

SIDE = 160  # pixels of thumbnails


class ContactSheet:
    """Pictures in rows, a caption below each, in one Axes: what the two sheets share."""

    indices: np.ndarray
    thumbnails: list[Any]
    problems: list[str | None]
    names: list[str]
    title: str

    def _captions(self) -> list[list[str]]:
        raise NotImplementedError

    @classmethod
    def _asked(
        cls, estimator: Any, X: Any, y: Any, n_images: int, images: Any, ranks: Any, *, needs_labels: bool
    ) -> tuple[Response, Any, WhiteLevel]:
        """Ask a classifier; what it said, the pictures that are shown, and what is white in them."""
        who = cls.__name__
        pyplot(who)
        check_integer("n_images", n_images, 1)
        X = as_sequence(X)
        pictures = check_pictures(who, X, images)
        said = response_of(
            who,
            estimator,
            X,
            y,
            ranks=ranks,
            probabilities=hasattr(estimator, "predict_proba"),
            needs_labels=needs_labels,
            skip_unreadable=True,
        )
        return said, pictures, white_of(estimator)

    def _hold(self, indices: np.ndarray, thumbnails: list[Thumbnail], title: str) -> None:
        self.indices = indices
        self.thumbnails = [each.pixels for each in thumbnails]
        self.problems = [each.problem for each in thumbnails]
        self.names = [each.name for each in thumbnails]
        self.title = title

    def plot(self, ax: Any = None, *, n_columns: int | None = None, text_kw: dict[str, Any] | None = None) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure, which grows with the number of pictures.
        n_columns : int, optional
            Pictures in a row; by default as many as make a sheet that is a little wider than high.
        text_kw : dict, optional
            For `Axes.text` of the captions.

        Returns
        -------
        display
            Itself.
        """
        n = len(self.indices)
        if n_columns is not None:
            check_integer("n_columns", n_columns, 1)
        columns = n_columns or math.ceil(n / max(1, round(math.sqrt(n / 1.7)))) or 1
        rows = max(1, math.ceil(n / columns))
        captions = self._captions()
        n_lines = max([len(lines) for lines in captions], default=1)
        tile, line = 1.6, 0.1  # inches of a tile, and of a line of its caption in tiles
        self._tallest = max([_sides(pixels)[0] for pixels in self.thumbnails], default=1.0)
        step = self._tallest + 0.06 + line * n_lines + 0.06
        width = max(columns * 1.08 * tile, 4.5)
        (ax,) = panels(type(self).__name__, ax, (width, rows * step * tile + 0.4))
        ax.set(xlim=(-0.04, columns * 1.08 - 0.04), ylim=(rows * step, -0.04), aspect="equal")
        ax.set_axis_off()
        box = ax.get_window_extent()
        scale = min(box.width / (columns * 1.08), box.height / (rows * step + 0.04)) / ax.figure.dpi  # inches of a tile
        size = max(1.0, 8.5 / tile * scale)
        self.images_: list[Any] = []
        self.texts_: list[Any] = []
        for place, lines in enumerate(captions):
            corner = (place % columns * 1.08, place // columns * step)
            self._draw_tile(ax, place, corner, size)
            self.texts_.append(_caption(ax, (corner[0], corner[1] + self._tallest + 0.03), lines, size, text_kw))
        ax.set_title(self.title, fontsize="medium", loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_tile(self, ax: Any, place: int, corner: tuple[float, float], size: float) -> None:
        pixels = self.thumbnails[place]
        left, top = corner
        if pixels is None:
            name = f"{self.names[place]}\n" if self.names[place] else ""
            draw_blank(ax, (left, top, 1), f"{name}{self.problems[place]}", size, 20)
            self.images_.append(None)
            return
        height, width = _sides(pixels)
        left, top = left + (1 - width) / 2, top + self._tallest - height  # on the line of its caption
        limits = ax.get_xlim(), ax.get_ylim()
        self.images_.append(
            ax.imshow(pixels, extent=(left, left + width, top + height, top), interpolation="antialiased")
        )
        ax.set(xlim=limits[0], ylim=limits[1])


def _sides(pixels: np.ndarray | None) -> tuple[float, float]:
    """Height and width in tiles; what cannot be read has a whole one."""
    if pixels is None:
        return 1.0, 1.0
    height, width = pixels.shape[:2]
    return height / max(height, width), width / max(height, width)


def _caption(
    ax: Any, corner: tuple[float, float], lines: list[str], size: float, text_kw: dict[str, Any] | None
) -> Any:
    from matplotlib.text import Text

    style = {"fontsize": size, "va": "top", "ha": "left", "linespacing": 1.15}
    return ax.text(*corner, "\n".join(short(line, 29) for line in lines), **styled(style, text_kw, Text))


def title_of(what: str, shown: int, n: int, n_failures: int) -> str:
    """Say above the sheet what it shows, and of how many images."""
    lost = f"; {n_failures} cannot be read" if n_failures else ""
    return f"{what}: {shown} of {n} images{lost}"


def with_failures(ordered: np.ndarray, failures: dict[int, str], n_images: int) -> np.ndarray:
    """Choose the indices that are shown; what cannot be read comes last, where there is room."""
    return np.concatenate([ordered, np.array(sorted(failures), dtype=np.int64)])[:n_images]


def labels_of(said_rows: np.ndarray, labels: np.ndarray | None, indices: np.ndarray) -> list[Any]:
    """Label of each index, None where nothing was said of it."""
    if labels is None:
        return [None] * len(indices)
    by_row = dict(zip(said_rows.tolist(), labels.tolist(), strict=True))
    return [by_row.get(index) for index in indices.tolist()]


def line_of(word: str, name: Any) -> list[str]:
    """Return one line of a caption, or none where there is no such label."""
    return [] if name is None else [f"{word} {short(str(name), 27 - len(word))}"]


def named(label: Any, display: Any) -> str | None:
    """Return the name of a label as the display writes it, or None where there is no label."""
    if label is None:
        return None
    return default_name(label) if display.display_labels is None else display.display_labels[label]
