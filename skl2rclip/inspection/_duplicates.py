"""The display of images that are copies of one another. Which images are, it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skl2rclip._images.levels import WhiteLevel
from skl2rclip._ordinal.labels import check_labels
from skl2rclip._ordinal.ranks import default_name
from skl2rclip._utils.arguments import check_groups, check_integer, check_lengths
from skl2rclip.inspection._contact_sheet import draw_tile, sides, text_below
from skl2rclip.inspection._drawing import AS_IT_IS, VERMILION, in_a_line, panels, pyplot, short
from skl2rclip.inspection._responses import as_sequence
from skl2rclip.inspection._thumbnails import Thumbnail, check_images, thumbnails_of

_SIDE = 160  # pixels of thumbnails
_TILE, _LINE, _HEADING = 1.6, 0.1, 0.14  # inches of a tile, and of a line and a heading in tiles
_STEP = 1.08  # of a tile and the gap beside it, in tiles


class DuplicateImagesDisplay:
    """Sets of images that are copies of one another, a row of thumbnails each, and what in them contradicts.

    Make one with `from_frame`. All parameters are stored as attributes.

    Sets whose labels contradict or that cross groups come first, for these are the ones to decide on: which label
    holds, or whether they are copies at all. Of a set with more images than are shown, those with labels and groups of
    their own come first.

    Parameters
    ----------
    indices : list of m ndarray
        Index in X of each image that is shown of each set.
    thumbnails : list of m list of Thumbnail
        Each image that is shown, small.
    captions : list of m list of list of str
        Lines below each image.
    headings : list of m str
        What is said of each set.
    is_doubtful : sequence of m bool
        Whether labels contradict or groups are crossed.
    n_more : sequence of m int
        How many images of each set are not shown.
    title : str, default="Copies"
        Title of the sheet.

    Attributes
    ----------
    images_ : list of m list of AxesImage or None
        None where an image cannot be read.
    texts_ : list of m list of Text
        Captions.
    headings_ : list of m Text
    ax_ : Axes
    figure_ : Figure

    See Also
    --------
    skl2rclip.find_duplicates : Finds them.
    skl2rclip.group_duplicates : Groups that keep them together.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from skl2rclip import find_duplicates
    >>> from skl2rclip.inspection import DuplicateImagesDisplay
    >>> china, flower = load_sample_images().images
    >>> X, y = [china, flower, china[::2, ::-2]], [1, 2, 3]
    >>> display = DuplicateImagesDisplay.from_frame(find_duplicates(X, y), X, y)
    >>> display.indices
    [array([0, 2])]
    """

    def __init__(
        self,
        indices: Sequence[np.ndarray],
        thumbnails: Sequence[Sequence[Thumbnail]],
        captions: Sequence[Sequence[Sequence[str]]],
        headings: Sequence[str],
        is_doubtful: Sequence[bool],
        n_more: Sequence[int],
        title: str = "Copies",
    ):
        self.indices, self.thumbnails, self.captions = indices, thumbnails, captions
        self.headings, self.is_doubtful, self.n_more, self.title = headings, is_doubtful, n_more, title

    @classmethod
    def from_frame(
        cls,
        copies: Any,
        X: Any,
        y: Any = None,
        groups: Any = None,
        *,
        n_sets: int = 8,
        n_images: int = 5,
        display_labels: Mapping[Any, str] | None = None,
        white_level: float | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> DuplicateImagesDisplay:
        """Draw what `find_duplicates` has found.

        Parameters
        ----------
        copies : pandas.DataFrame
            As `find_duplicates` returns it, or the rows of some sets, which are drawn then.
        X : sequence of n images
            The images that it was asked about.
        y : array-like of shape (n,), optional
            Labels, for the captions.
        groups : array-like of shape (n,), optional
            Whose image each is, for the captions.
        n_sets : int, default=8
            Most sets that are shown; those that contradict or cross groups come first.
        n_images : int, default=5
            Most images of a set that are shown; no others are decoded.
        display_labels : mapping from label to str, optional
            Words for labels, such as `rank_names_` of a classifier; others are shown as they are.
        white_level : float, optional
            Which value is white in images of more than eight bits, as `find_duplicates` was given it.
        ax : Axes, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        DuplicateImagesDisplay

        Raises
        ------
        TypeError
            If `copies` is no such frame.
        ValueError
            If it names images that X does not have, or labels or groups have not one entry for each.
        """
        pyplot(cls.__name__)
        check_integer("n_sets", n_sets, 1)
        check_integer("n_images", n_images, 1)
        X = check_images(cls.__name__, as_sequence(X), None, "give the X that find_duplicates was given")
        sets = _Sets(copies, len(X), _labels(y, len(X), display_labels), _group_names(groups, len(X)))
        shown = sets.first(n_sets)
        indices = [sets.told_apart(each)[:n_images] for each in shown]
        flat = np.concatenate([np.empty(0, np.int64), *indices])
        thumbnails = iter(thumbnails_of(X, flat, _SIDE, WhiteLevel(white_level)))
        display = cls(
            indices,
            [[next(thumbnails) for _ in rows] for rows in indices],
            [[sets.caption(row) for row in rows] for rows in indices],
            [sets.heading(each) for each in shown],
            [bool(sets.problems(each)) for each in shown],
            [len(sets.members[each]) - len(rows) for each, rows in zip(shown, indices, strict=True)],
            f"Copies: {len(shown)} of {len(sets.members)} sets, of {len(sets.place)} among {len(X)} images",
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, text_kw: dict[str, Any] | None = None) -> DuplicateImagesDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure, which grows with the number of sets.
        text_kw : dict, optional
            For `Axes.text` of the captions.

        Returns
        -------
        DuplicateImagesDisplay
            Itself.
        """
        columns = max([len(rows) for rows in self.indices], default=1)
        tops, height = self._tops()
        width = max(columns * _STEP, 4.5 / _TILE)
        (ax,) = panels(type(self).__name__, ax, (width * _TILE, height * _TILE + 0.4))
        ax.set(xlim=(-0.04, width - 0.04), ylim=(height, -0.04), aspect="equal")
        ax.set_axis_off()
        box = ax.get_window_extent()
        scale = min(box.width / width, box.height / (height + 0.04)) / ax.figure.dpi  # inches of a tile
        self._size = max(1.0, 8.5 / _TILE * scale)
        self.images_, self.texts_, self.headings_ = [], [], []
        for number, top in enumerate(tops):
            self.headings_.append(self._draw_heading(ax, number, top))
            drawn = self._draw_set(ax, number, top + _HEADING, text_kw)
            self.images_.append(drawn[0])
            self.texts_.append(drawn[1])
        ax.set_title(self.title, fontsize="medium", loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _tops(self) -> tuple[list[float], float]:
        """Upper edges of the sets, and where the last one ends, in tiles."""
        tops, top = [], 0.0
        for number, thumbnails in enumerate(self.thumbnails):
            tops.append(top)
            n_lines = max(len(self._lines(number, place)) for place in range(len(thumbnails)))
            top += _HEADING + max(sides(each.pixels)[0] for each in thumbnails) + _LINE * n_lines + 0.16
        return tops, top or 0.3

    def _draw_heading(self, ax: Any, number: int, top: float) -> Any:
        style = {"color": VERMILION, "weight": "bold"} if self.is_doubtful[number] else {}
        more = f", and {self.n_more[number]} more" if self.n_more[number] else ""
        return ax.text(0, top, self.headings[number] + more, fontsize=self._size, va="top", **style, **AS_IT_IS)

    def _draw_set(
        self, ax: Any, number: int, top: float, text_kw: dict[str, Any] | None
    ) -> tuple[list[Any], list[Any]]:
        images, texts = [], []
        thumbnails = self.thumbnails[number]
        tallest = max(sides(each.pixels)[0] for each in thumbnails)
        for place, thumbnail in enumerate(thumbnails):
            corner = (place * _STEP, top)
            images.append(draw_tile(ax, thumbnail, corner, tallest, self._size))
            below = (corner[0], top + tallest + 0.03)
            texts.append(text_below(ax, below, self._lines(number, place), self._size, text_kw))
        return images, texts

    def _lines(self, number: int, place: int) -> list[str]:
        """Return the lines below an image: the name of its file, where the tile does not say it, and its caption."""
        thumbnail = self.thumbnails[number][place]
        named = [thumbnail.name] if thumbnail.name and thumbnail.pixels is not None else []
        return [*named, *self.captions[number][place]]


class _Sets:
    """What a frame of copies says, with labels and groups of the images, which may be None."""

    def __init__(self, copies: Any, n: int, labels: list[str] | None, groups: list[str] | None):
        missing = [each for each in ("set", "index", "distance", "kind") if each not in getattr(copies, "columns", ())]
        if missing:
            raise TypeError(
                f"copies must be a frame as find_duplicates returns it, got {type(copies).__name__} without the "
                f"column {missing[0]!r}."
            )
        rows, numbers = np.asarray(copies["index"]), np.asarray(copies["set"]).tolist()
        if len(rows) and rows.dtype.kind not in "iu":
            raise ValueError(
                f"copies has a column 'index' of {copies['index'].dtype}, and those of find_duplicates are integers: "
                "give it as it was returned."
            )
        if len(rows) and (rows.min() < 0 or rows.max() >= n):
            raise ValueError(
                f"copies has indices from {rows.min()} to {rows.max()}, and X holds {n} images: give the X that "
                "find_duplicates was given."
            )
        self.place = {row: place for place, row in enumerate(rows.tolist())}
        self._distances, self._kinds = (np.asarray(copies[name]).tolist() for name in ("distance", "kind"))
        self._labels, self._groups = labels, groups
        self.members: dict[Any, list[int]] = {}
        for row, number in zip(rows.tolist(), numbers, strict=True):
            self.members.setdefault(number, []).append(row)
        flags = [each for each in ("contradicts", "crosses_groups") if each in copies.columns]
        self._flags = {flag: dict(zip(numbers, np.asarray(copies[flag]).tolist(), strict=True)) for flag in flags}

    def problems(self, number: Any) -> list[str]:
        """Say what in a set contradicts: by labels and groups, or what the frame knows of them."""
        said = []
        for flag, names, problem in (
            ("contradicts", self._labels, "labels contradict"),
            ("crosses_groups", self._groups, "crosses groups"),
        ):
            known = self._flags.get(flag, {}).get(number, False)
            if known if names is None else len({names[row] for row in self.members[number]}) > 1:
                said.append(problem)
        return said

    def first(self, n_sets: int) -> list[Any]:
        """Return sets in the order in which they are shown."""
        return sorted(self.members, key=lambda number: -len(self.problems(number)))[:n_sets]

    def told_apart(self, number: Any) -> np.ndarray:
        """Return the images of a set, those first that bring a label and a group of their own."""
        seen, turns = Counter[tuple[str, ...]](), []
        for row in self.members[number]:
            own = tuple(names[row] for names in (self._labels, self._groups) if names is not None)
            turns.append(seen[own])
            seen[own] += 1
        return np.array(self.members[number], np.int64)[np.argsort(turns, kind="stable")]

    def heading(self, number: Any) -> str:
        return ", ".join([f"set {number}: {len(self.members[number])} images", *self.problems(number)])

    def caption(self, row: int) -> list[str]:
        kind, distance = (values[self.place[row]] for values in (self._kinds, self._distances))
        how = "exact" if kind == "exact" else f"near, {distance:.2f} apart"
        named = (("label", self._labels), ("group", self._groups))
        return [f"index {row}, {how}", *(f"{word} {short(names[row], 18)}" for word, names in named if names)]


def _labels(y: Any, n: int, display_labels: Mapping[Any, str] | None) -> list[str] | None:
    """Words for the labels of all images."""
    if y is None:
        return None
    labels = check_labels(y)
    check_lengths(range(n), labels)
    words = {label: default_name(label) for label in set(labels.tolist())} | dict(display_labels or {})
    return [in_a_line(str(words[label])) for label in labels.tolist()]


def _group_names(groups: Any, n: int) -> list[str] | None:
    if groups is None:
        return None
    check_groups(groups, n)
    return [in_a_line(str(name)) for name in np.asarray(groups, dtype=object).tolist()]
