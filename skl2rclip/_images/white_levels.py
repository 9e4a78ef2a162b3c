"""Which value is white in pictures whose type could hold more levels than they use: one answer for all of a kind.

Values are told by the rooms that decode; what is decided here is kept with a model, and every picture is held against
it again when it is decoded. No picture is known here, only where its values begin and end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from skl2rclip._utils.names import IN_ORDER, EntryNames

# of pictures for which neither file nor mode say which value is white, and what is white where all of them are black
KINDS = {"uint16": 65535, "integer": 255, "floating": 1}
# of 8, 10, 12, 14 and 16 bits
WHITES_OF_UINT16 = (255, 1023, 4095, 16383, 65535)
WHITES_OF_INTEGERS = (255, 65535, 2**32 - 1)
WHITES_OF_FLOATS = (1, 255)
# what enlarging, sharpening and rounding add to values from 0 to 1, and from 0 to 255
_MOST_OF_UNIT = 2.0
_LEAST_OF_BYTES, _MOST_OF_BYTES = 16.0, 270.0
_MOST_BELOW_ZERO = 0.05
# where the highest value of several pictures is within these, no other white comes into question
_CLEARLY_UNIT, _CLEARLY_BYTES = (0.5, 1.1), (128.0, _MOST_OF_BYTES)
# the eighth bit of integers is used, the fifteenth, the thirty-second: narrower is impossible, wider would be black
_CLEAR_INTEGERS = {255: 128, 65535: 16384, 2**32 - 1: 2**31}
_DARKEST = 16
_REMEDY = "give {}, with the value that is white"


@dataclass(frozen=True)
class Whites:
    """Which value is white in all pictures of a kind; None where there were none, or all of them were black.

    Attributes
    ----------
    uint16 : {255, 1023, 4095, 16383, 65535} or None
        Of 16-bit files, modes and arrays.
    integer : {255, 65535, 4294967295} or None
        Of mode I and arrays of other integers.
    floating : {1, 255} or None
        Of mode F and arrays of floats.
    """

    uint16: int | None = None
    integer: int | None = None
    floating: int | None = None

    def of(self, kind: str) -> int | None:
        """White of one of `KINDS`."""
        white: int | None = getattr(self, kind)
        return white

    def plus(self, kind: str, white: int | None) -> Whites:
        """Return the same with the white of one more kind."""
        return replace(self, **{kind: white})

    def known(self) -> dict[str, int]:
        """Whites by kind, where there are any."""
        return {kind: white for kind in KINDS if (white := self.of(kind)) is not None}


NOTHING_DECIDED = Whites()


@dataclass(frozen=True)
class ValueRange:
    """Where the values of a picture begin and end.

    Attributes
    ----------
    kind : {"uint16", "integer", "floating"}
    low, high : float
        Without infinities and NaN.
    is_cut : bool
        Whether only the upper eight of sixteen bits can be had; the lower ones count as ones.
    is_array : bool
        Whether it is an array, and no PIL image or file.
    parts : tuple of two float, optional
        Highest value of the colours and of the alpha channel, where an array has one.
    """

    kind: str
    low: float
    high: float
    is_cut: bool = False
    is_array: bool = False
    parts: tuple[float, float] | None = None

    @property
    def remedy(self) -> str:
        """What to write instead."""
        if self.is_cut:
            return (
                "read it as an array in the order red, green, blue, with tifffile.imread(name) or "
                "cv2.imread(name, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)[..., ::-1], and give that"
            )
        scaled = "({} / white * 255).round().astype('uint8')"
        if self.is_array:
            return _REMEDY.format(scaled.format("array"))
        return _REMEDY.format(f"Image.fromarray({scaled.format('np.asarray(image)')})")


@dataclass(frozen=True)
class Decision:
    """What the ranges of all pictures of a kind say together.

    Attributes
    ----------
    white : int or None
        None where all are black, and where it cannot be told.
    reasons : dict of int to str
        Why pictures do not go with it, by index.
    has_doubt : bool
        Whether another white would be possible, so that the user is to be told.
    """

    white: int | None
    reasons: dict[int, str]
    has_doubt: bool = False


def decide(ranges: Mapping[int, ValueRange], n_different: int, names: EntryNames = IN_ORDER) -> Decision:
    """Decide which value is white in pictures of one kind, from all of them together.

    Of `uint16` it is the smallest that 8, 10, 12, 14 or 16 bits reach and no picture exceeds. Of `integer` it is the
    highest of 8, 16 or 32 bits whose uppermost bit is used. Of `floating` it is 1 where no picture is above 2, and 255
    where pictures end between 16 and 270; what most of them are is right.

    Parameters
    ----------
    ranges : mapping of int to ValueRange
        By index, all of one kind.
    n_different : int
        How many different pictures these are.
    names : EntryNames, optional
        What the user calls each picture, where that is not its index in X.

    Returns
    -------
    Decision
    """
    kind = next(iter(ranges.values())).kind
    bad = {row: each for row, each in ranges.items() if _own_fault(each) is not None}
    reasons = {row: f"{_own_fault(each)}: {each.remedy}" for row, each in bad.items()}
    rest = {row: each for row, each in ranges.items() if row not in bad}
    bright = {row: each for row, each in rest.items() if each.high > 0}
    if not bright:
        return Decision(None, reasons)
    decision = _of_floats(bright, n_different, names) if kind == "floating" else _of_integers(bright, kind)
    if decision.white is not None:
        misfits = {row: misfit(each, decision.white) for row, each in bright.items()}
        reasons |= {row: reason for row, reason in misfits.items() if reason is not None}
    return replace(decision, reasons=dict(sorted((reasons | decision.reasons).items())))


def misfit(values: ValueRange, white: int) -> str | None:
    """Why a picture cannot have this value as white; None where it can."""
    fault = _own_fault(values)
    if fault is None and values.is_cut and white < 65535:
        fault = f"Pillow keeps the upper eight of its 16 bits of a colour, and {white} is white in pictures of 16 bits"
    elif fault is None and values.high > 0:
        fault = _misfit_of_floats(values, white) if values.kind == "floating" else _misfit_of_integers(values, white)
    return None if fault is None else f"{fault}: {values.remedy}"


def _own_fault(values: ValueRange) -> str | None:
    """Say what is wrong with a picture whatever others are."""
    if values.parts is not None and _have_two_whites(*values.parts, values.kind):
        colour, alpha = values.parts
        return f"its colours go up to {colour:.6g} and its alpha up to {alpha:.6g}, which cannot have the same white"
    if values.kind != "floating":
        return None if values.low >= 0 else f"its values go from {values.low:.0f} to {values.high:.0f}, below 0"
    most_below = _MOST_BELOW_ZERO * (1 if values.high <= _MOST_OF_UNIT else 255)
    if values.high <= _MOST_OF_BYTES and values.low >= -most_below:
        return None
    return (
        f"its values are floats from {values.low:.6g} to {values.high:.6g}, neither 0 to 1 nor 0 to 255, and nothing "
        "says which is white"
    )


def _have_two_whites(colour: float, alpha: float, kind: str) -> bool:
    """Whether colours would be black by the white of alpha, or alpha nothing by that of colours."""
    lower, higher = sorted((colour, alpha))
    if lower <= 0:
        return False
    return lower <= _MOST_OF_UNIT < higher if kind == "floating" else is_black(lower, higher)


# -------------------------------------------------------------------- integers


def _of_integers(ranges: Mapping[int, ValueRange], kind: str) -> Decision:
    high = max(each.high for each in ranges.values())
    if kind == "uint16" and high >= _DARKEST:
        white = next(each for each in WHITES_OF_UINT16 if each >= high)
        return Decision(white, {}, has_doubt=white < 65535)
    for white, least in _CLEAR_INTEGERS.items():
        if kind == "integer" and least <= high <= white:
            return Decision(white, {}, has_doubt=white == 255)
    return Decision(None, {row: f"{_ambiguous(each, high)}: {each.remedy}" for row, each in ranges.items()})


def _ambiguous(values: ValueRange, high: float) -> str:
    what = "its type holds 16 bits" if values.kind == "uint16" else "its type may hold 8, 10, 12, 14, 16 or 32 bits"
    others = "" if values.high == high else f" (in all pictures of its kind to {high:.0f})"
    return f"{what}, its values go from {values.low:.0f} to {values.high:.0f}{others}, and nothing says which is white"


def _misfit_of_integers(values: ValueRange, white: int) -> str | None:
    if values.high > white:
        return f"its values go up to {values.high:.0f}, above the {white} that is white in pictures of its kind"
    if is_black(values.high, white):
        return (
            f"its values end at {values.high:.0f} of {white}, so that it would be black: if it holds fewer bits than "
            "the others of its kind"
        )
    return None


def is_black(high: float, white: float) -> bool:
    """Whether the brightest pixel is one of the darkest sixteenth: fewer bits in a type that could hold more."""
    return white > 4095 and 0 < high < (white + 1) / _DARKEST


# ---------------------------------------------------------------------- floats


def _of_floats(ranges: Mapping[int, ValueRange], n_different: int, names: EntryNames) -> Decision:
    by_white: dict[int, list[int]] = {white: [] for white in WHITES_OF_FLOATS}
    for row, each in ranges.items():
        by_white[_white_of_floats(each)].append(row)
    high = max(each.high for each in ranges.values())
    if not by_white[1] and high < _LEAST_OF_BYTES:
        return Decision(
            None,
            {
                row: f"its values are floats up to {each.high:.6g}, neither 0 to 1 nor 0 to 255: {each.remedy}"
                for row, each in ranges.items()
            },
        )
    fewer, more = sorted(by_white.values(), key=len)
    if not fewer:
        white = _white_of_floats(ranges[more[0]])
        low_end, high_end = _CLEARLY_UNIT if white == 1 else _CLEARLY_BYTES
        return Decision(white, {}, has_doubt=n_different == 1 or not low_end <= high <= high_end)
    reasons = {row: _mixed(ranges, row, more, names) for row in fewer}
    if len(fewer) < len(more):
        return Decision(_white_of_floats(ranges[more[0]]), reasons, has_doubt=True)
    # as many of the one as of the other: nobody can say which are right
    return Decision(None, reasons | {row: _mixed(ranges, row, fewer, names) for row in more})


def _white_of_floats(values: ValueRange) -> int:
    return 1 if values.high <= _MOST_OF_UNIT else 255


def _mixed(ranges: Mapping[int, ValueRange], row: int, others: list[int], names: EntryNames) -> str:
    own, other = ranges[row], ranges[others[0]]
    rest = f" and of {len(others) - 1} more" if len(others) > 1 else ""
    return (
        f"its values are floats up to {own.high:.6g}, and those of {names[others[0]]}{rest} go up to "
        f"{other.high:.6g}: give all of them from 0 to 1, or all of them from 0 to 255"
    )


def _misfit_of_floats(values: ValueRange, white: int) -> str | None:
    if _white_of_floats(values) == white:
        return None
    return f"its values are floats up to {values.high:.6g}, and {white} is white in pictures of floats"
