"""What all displays draw with: matplotlib when it is asked for, panels, ticks along ranks, and a style for all eyes.

Colours are those of Okabe and Ito, which colour-blind eyes tell apart, and no two things differ by colour alone.
Nothing is known of estimators or images.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from skl2rclip._ordinal.labels import holds_numbers, listing
from skl2rclip._ordinal.ranks import RankScale, default_name

BLUE, ORANGE, VERMILION, GREY = "#0072B2", "#E69F00", "#D55E00", "#9A9A9A"
# light, so that lines across them are seen, in grey too
BARS: dict[str, Any] = {"color": "#8DB9D8", "edgecolor": BLUE, "linewidth": 0.5}
LINES: list[dict[str, Any]] = [
    {"color": "black", "linestyle": "-", "marker": "o"},
    {"color": BLUE, "linestyle": "--", "marker": "s"},
    {"color": VERMILION, "linestyle": "-.", "marker": "^"},
    {"color": "#009E73", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": ORANGE, "linestyle": (0, (1, 3)), "marker": "P"},
]
# in the place of a title; one below the other, because what is wider than its axes makes these narrower
LEGEND_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "borderaxespad": 0.2, "fontsize": 9}

# of texts that hold words of the user's, in which "$", "_" or "\\" are nothing but letters
AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False}

_LINE, _MAX_LINES = 22, 3  # letters of a line of a label beside an axis
_MAX_LENGTH = 28  # letters of a label in one line
_NICE_STEPS = (1, 2, 5)


def pyplot(who: str) -> Any:
    """Import matplotlib for `who`, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f'{who} draws with matplotlib, which is not installed: pip install "skl2rclip[plot]".') from (
            error
        )
    return plt


def panels(who: str, ax: Any, size: tuple[float, float], ratios: Sequence[float] = (1,)) -> list[Any]:
    """Make the panels of a display side by side, which have widths in these ratios.

    They are drawn in `ax`: Axes for each, or one that is divided into all; or in a new figure of this `size` in
    inches.
    """
    plt = pyplot(who)
    if ax is None:
        _, axes = plt.subplots(1, len(ratios), figsize=size, width_ratios=ratios, layout="constrained", squeeze=False)
        return list(axes[0])
    given = list(np.ravel(ax))
    if not all(hasattr(each, "get_subplotspec") for each in given):
        raise TypeError(f"{who} draws in Axes of matplotlib, got ax={ax!r}.")
    if len(given) == 1 < len(ratios):
        return _within(given[0], ratios)
    if len(given) != len(ratios):
        raise ValueError(
            f"{who} draws {len(ratios)} panels, and ax holds {len(given)} Axes: give one, or one for each."
        )
    return given


def _within(ax: Any, ratios: Sequence[float]) -> list[Any]:
    ax.set_axis_off()
    spec = ax.get_subplotspec()
    if spec is not None:
        gap = 0.35 if ax.figure.get_layout_engine() is None else None  # a layout engine makes room itself
        grid = spec.subgridspec(1, len(ratios), width_ratios=ratios, wspace=gap)
        return [ax.figure.add_subplot(grid[place]) for place in range(len(ratios))]
    gap = 0.15
    widths = np.array(ratios) / np.sum(ratios) * (1 - gap * (len(ratios) - 1))
    lefts = np.concatenate([[0], np.cumsum(widths + gap)[:-1]])
    return [ax.inset_axes((left, 0, width, 1)) for left, width in zip(lefts, widths, strict=True)]


def styled(defaults: dict[str, Any], given: dict[str, Any] | None, kind: Any) -> dict[str, Any]:
    """Put what the user has given over the defaults, by whatever alias of matplotlib it is called."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(given or {}, kind)}


def written_cells(ax: Any, image: Any, matrix: np.ndarray, form: str, text_kw: dict[str, Any] | None) -> np.ndarray:
    """Write the numbers of a matrix into the cells of its image, dark on light and light on dark; return the texts."""
    from matplotlib.text import Text

    size = 10 if len(matrix) <= 8 else 7
    texts = np.empty(matrix.shape, dtype=object)
    for (i, j), value in np.ndenumerate(matrix):
        red, green, blue = image.cmap(image.norm(value))[:3]
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # luma of ITU-R BT.601
        style = {"ha": "center", "va": "center", "fontsize": size, "color": "white" if is_dark else "black"}
        said = format(value, form) if value else "0"  # which is none at all, and 0.00 next to none
        texts[i, j] = ax.text(j, i, said, **styled(style, text_kw, Text))
    return texts


# ------------------------------------------------------------------- labels


def display_names(scale: RankScale, display_labels: Any = None) -> list[str]:
    """Words for the ranks on paper.

    They are those of the scale, which are a classifier's own where it was asked; ``"ranks"`` stands for the labels.
    """
    labels = scale.ranks.tolist()
    if display_labels is None:
        return [in_a_line(name) for name in scale.names]
    if isinstance(display_labels, str):
        if display_labels != "ranks":
            raise ValueError(
                f"display_labels must hold a word for each rank, or be 'ranks' for the labels, got {display_labels!r}."
            )
        return [in_a_line(default_name(label)) for label in labels]
    if isinstance(display_labels, Mapping):  # as `rank_names_` is
        missing = [label for label in labels if label not in display_labels]
        if missing:
            raise ValueError(f"display_labels has no word for {listing(missing)}; add what is missing.")
        return [in_a_line(str(display_labels[label])) for label in labels]
    names = [in_a_line(str(label)) for label in display_labels]
    if len(names) != len(labels):
        raise ValueError(f"display_labels must hold one for each of the {len(labels)} ranks, got {len(names)}.")
    return names


def in_a_line(name: str) -> str:
    """Write a name in one line, and control characters and half surrogates, which no font has, as Python does."""
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in ("Cc", "Cs") else each
        for each in " ".join(name.split())
    )


def unit_of(scale: RankScale, names: Sequence[str]) -> str:
    """Say what distances between ranks are counted in, to stand behind a word; nothing where the names show it."""
    if holds_numbers(scale.ranks):
        if all(_is_number(name) for name in names):
            return ""
        if (np.abs(np.diff(scale.values)) != 1).any():
            return " in the unit of the labels"
    return " in ranks"


def rounded(value: float, spread: float) -> str:
    """Write a number without digits that mean nothing: four at most, and none that is below a fifth of its spread."""
    places = 3 - math.floor(math.log10(abs(value))) if value else 3
    if not spread > 0:
        return default_name(round(value, max(0, places)) + 0.0)
    places = max(0, min(places, math.ceil(-math.log10(spread / 2))))
    return f"{value:z.{places}f}"


def short(text: str, longest: int = _MAX_LENGTH) -> str:
    """Leave out the middle of what is too long; beginnings and ends tell labels apart."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    ending = (longest - 1) // 3
    return f"{text[: longest - 1 - ending].rstrip()}…{text[len(text) - ending :].lstrip()}"


def _wrapped(name: str) -> str:
    """Break a name into lines; of one that is too long for them, the middle is left out."""
    longest = _LINE * _MAX_LINES
    while len(lines := textwrap.wrap(short(name, longest), _LINE, break_on_hyphens=False)) > _MAX_LINES:
        longest -= 1
    return "\n".join(lines) or name


def fitted(ax: Any, text: str, size: float = 10) -> str:
    """Break a text of this size, in points, into lines that are not wider than Axes are now."""
    room = ax.get_window_extent().width / ax.figure.dpi * 72
    letters = max(12, int(room / (0.52 * size)))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, letters))


def _width(labels: Iterable[str]) -> int:
    return max(len(line) for label in labels for line in label.split("\n"))


def _n_lines(labels: Iterable[str]) -> int:
    return max(label.count("\n") for label in labels) + 1


def margin_for(names: Iterable[str]) -> float:
    """Inches that long words take beside an axis, beyond those of short ones."""
    return 0.075 * max(0, _width(_wrapped(name) for name in names) - 6)


def mark_ranks(ax: Any, which: str, names: Sequence[str], notes: Sequence[str] | None = None) -> None:
    """Put as many ticks along the x or y axis as there is room for, at the positions 0 to K - 1 of these names.

    Notes stand below the names, or behind those that are turned.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    points = FontProperties(size=rcParams["xtick.labelsize"]).get_size_in_points()
    box = ax.get_window_extent()
    room = (box.width if which == "x" else box.height) / ax.figure.dpi * 72 / len(names)  # points for each rank
    shown = [_wrapped(name) for name in names]
    widest = 0.58 * points * (_width([*shown, *(notes or [])]) + 1)
    are_numbers = notes is None and all(_is_number(name) for name in names)
    is_turned = which == "x" and widest > room and not are_numbers
    line = 1.25 * points * (math.sqrt(2) if is_turned else 1)  # of text, along the axis
    if is_turned and line * _n_lines(shown) > room:
        shown = [short(name) for name in names]
    if notes is not None:
        shown = [f"{name}{', ' if is_turned else chr(10)}{note}" for name, note in zip(shown, notes, strict=True)]
    needed = line * _n_lines(shown) if which == "y" or is_turned else widest
    places = _thinned(names, math.ceil(needed / room))
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(places, [shown[place] for place in places], **AS_IT_IS)
    if is_turned:
        for label in axis.get_ticklabels():
            label.set(rotation=45, ha="right", va="top", rotation_mode="anchor")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _thinned(names: Sequence[str], least: int) -> list[int]:
    """Every so many places, at least `least` apart, on round numbers where names are whole numbers in a row."""
    step = next(nice * 10**power for power in range(9) for nice in _NICE_STEPS if nice * 10**power >= least)
    start = 0
    if step > 1 and all(_is_number(name) for name in names):
        numbers = np.array([float(name) for name in names])
        if (np.diff(numbers) == 1).all() and numbers[0].is_integer():
            start = int(-numbers[0] % step)
    return list(range(start, len(names), step))


def draw_blank(ax: Any, square: tuple[float, float, float], said: str, size: float, letters: int) -> None:
    """Draw a tile without an image, which says why."""
    from matplotlib.patches import Rectangle

    left, top, side = square
    ax.add_patch(Rectangle((left, top), side, side, facecolor="0.93", edgecolor="0.5", hatch="//", linewidth=0.8))
    wrapped = "\n".join(line for part in said.splitlines() for line in textwrap.wrap(part, letters)[:4])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    style = {"ha": "center", "va": "center", "fontsize": size, "bbox": box, **AS_IT_IS}
    ax.text(left + side / 2, top + side / 2, wrapped, **style)
