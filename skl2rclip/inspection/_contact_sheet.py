"""What contact sheets share: whom they ask, the tiles, their captions, and the title."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from skl2rclip._images.levels import FULL_RANGE, WhiteLevel
from skl2rclip._ordinal.rank_lookup import encoded_pair
from skl2rclip._ordinal.ranks import default_name
from skl2rclip._utils.arguments import check_integer, check_lengths
from skl2rclip.inspection._drawing import AS_IT_IS, display_names, draw_blank, panels, pyplot, short, styled
from skl2rclip.inspection._responses import Response, as_sequence, response_of
from skl2rclip.inspection._thumbnails import Thumbnail, check_images, thumbnails_of, white_of

_SIDE = 160  # pixels of thumbnails
_Asked = tuple[Response, Any, WhiteLevel]


class ContactSheet:
    """Images in rows, a caption below each, in one Axes: what the two sheets share."""

    def _hold(
        self, indices: Any, thumbnails: list[Thumbnail], title: str, y_true: Any, y_pred: Any, display_labels: Any
    ) -> None:
        self.indices, self.title = indices, title
        self.thumbnails = [each.pixels for each in thumbnails]
        self.problems = [each.problem for each in thumbnails]
        self.names = [each.name for each in thumbnails]
        self.y_true, self.y_pred, self.display_labels = y_true, y_pred, display_labels

    @classmethod
    def _asked(
        cls, estimator: Any, X: Any, y: Any, n_images: int, images: Any, ranks: Any, *, needs_labels: bool
    ) -> _Asked:
        """Ask a classifier; what it said, the images that are shown, and what is white in them."""
        who = cls.__name__
        pyplot(who)
        check_integer("n_images", n_images, 1)
        X = as_sequence(X)
        shown = check_images(who, X, images)
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
        return said, shown, white_of(estimator)

    @classmethod
    def _given(cls, images: Any, y_true: Any, y_pred: Any, n_images: int, ranks: Any) -> _Asked:
        """Take predictions for what a classifier says; `y_true` may be None."""
        pyplot(cls.__name__)
        check_integer("n_images", n_images, 1)
        images = check_images(cls.__name__, as_sequence(images), None)
        scale, true, predicted = encoded_pair(y_pred if y_true is None else y_true, y_pred, ranks)
        check_lengths(images, predicted)
        rows = np.arange(len(predicted))
        return Response(scale, rows, None if y_true is None else true, predicted), images, FULL_RANGE

    @classmethod
    def _shown(
        cls, asked: _Asked, order: np.ndarray, n_images: int, what: str, display_labels: Any, **columns: np.ndarray
    ) -> Self:
        """Make a sheet of images in this order; what cannot be read comes last, where there is room.

        `order` and `columns` are of the rows of the response; a sheet takes of each column what is shown, else NaN.
        """
        said, images, white = asked
        ranks = said.scale.ranks.tolist()
        indices = np.concatenate([said.rows[order], np.array(sorted(said.failures), dtype=np.int64)])[:n_images]
        row_of = dict(zip(said.rows.tolist(), range(len(said.rows)), strict=True))
        rows = [row_of.get(index) for index in indices.tolist()]

        def labels(positions: np.ndarray) -> list[Any]:
            return [None if row is None else ranks[positions[row]] for row in rows]

        lost = f"; {len(said.failures)} cannot be read" if said.failures else ""
        assert said.predicted is not None
        named: dict[str, Any] = {
            name: np.array([np.nan if row is None else column[row] for row in rows]) for name, column in columns.items()
        }
        return cls(  # type: ignore[call-arg]  # of those that inherit
            indices=indices,
            y_true=None if said.true is None else labels(said.true),
            y_pred=labels(said.predicted),
            thumbnails=thumbnails_of(images, indices, _SIDE, white),
            title=f"{what}: {len(indices)} of {len(images)} images{lost}",
            display_labels=dict(zip(ranks, display_names(said.scale, display_labels), strict=True)),
            **named,
        )

    def _caption(self, place: int) -> list[str]:
        raise NotImplementedError

    def _file(self, place: int) -> list[str]:
        """One line of a caption, or none where the image is no file, or the tile says so in its place."""
        name = self.names[place]
        return [short(name, 29)] if name and self.thumbnails[place] is not None else []

    def _line(self, word: str, labels: Any, place: int) -> list[str]:
        """One line of a caption, or none where there is no such label."""
        label = None if labels is None else labels[place]
        if label is None:
            return []
        name = default_name(label) if self.display_labels is None else self.display_labels[label]
        return [f"{word} {short(str(name), 27 - len(word))}"]

    def plot(self, ax: Any = None, *, n_columns: int | None = None, text_kw: dict[str, Any] | None = None) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure, which grows with the number of images.
        n_columns : int, optional
            Images in a row; by default as many as make a sheet that is a little wider than high.
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
        captions = [self._caption(place) for place in range(n)]
        n_lines = max([len(lines) for lines in captions], default=1)
        tile, line = 1.6, 0.1  # inches of a tile, and of a line of its caption in tiles
        tallest = max([sides(pixels)[0] for pixels in self.thumbnails], default=1.0)
        step = tallest + 0.06 + line * n_lines + 0.06
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
            tile_of_image = Thumbnail(self.thumbnails[place], self.names[place], self.problems[place])
            self.images_.append(draw_tile(ax, tile_of_image, corner, tallest, size))
            self.texts_.append(text_below(ax, (corner[0], corner[1] + tallest + 0.03), lines, size, text_kw))
        ax.set_title(self.title, fontsize="medium", loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def draw_tile(ax: Any, thumbnail: Thumbnail, corner: tuple[float, float], tallest: float, size: float) -> Any:
    """Draw an image in a row of this height, in tiles, on the line of its caption; None for one that cannot be read.

    `size` is that of the texts, in points.
    """
    left, top = corner
    if thumbnail.pixels is None:
        name = f"{thumbnail.name}\n" if thumbnail.name else ""
        draw_blank(ax, (left, top, 1), f"{name}{thumbnail.problem}", size, 20)
        return None
    height, width = sides(thumbnail.pixels)
    left, top = left + (1 - width) / 2, top + tallest - height
    limits = ax.get_xlim(), ax.get_ylim()
    image = ax.imshow(thumbnail.pixels, extent=(left, left + width, top + height, top), interpolation="antialiased")
    ax.set(xlim=limits[0], ylim=limits[1])
    return image


def sides(pixels: np.ndarray | None) -> tuple[float, float]:
    """Return height and width in tiles; what cannot be read has a whole one."""
    if pixels is None:
        return 1.0, 1.0
    height, width = pixels.shape[:2]
    return height / max(height, width), width / max(height, width)


def text_below(
    ax: Any, corner: tuple[float, float], lines: list[str], size: float, text_kw: dict[str, Any] | None
) -> Any:
    """Write the lines of a caption below a tile."""
    from matplotlib.text import Text

    style = {"fontsize": size, "va": "top", "ha": "left", "linespacing": 1.15, **AS_IT_IS}
    return ax.text(*corner, "\n".join(short(line, 29) for line in lines), **styled(style, text_kw, Text))
