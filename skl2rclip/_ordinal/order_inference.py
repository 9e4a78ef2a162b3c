"""Orders that words show by themselves: numbers and ranges, Roman numerals, dates, and scales of everyday words.

What is found here is proposed to the user; only readers of data sets, which say what they found, take it as it is.
Nothing is known of ranks, models or arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

# lowest first; words on one step mean nearly the same, and where two of them meet no order is plain
_SCALES = """
    none, no, absent, zero < extremely low, lowest < very low, minimal < low <
        medium low, moderately low, below average < medium, moderate, mid, middle, average, normal, intermediate <
        medium high, moderately high, above average < high < very high < extremely high, highest, extreme
    none, no, non, absent, negative, normal, healthy, no dr < doubtful, questionable < minimal, very mild, trace <
        mild, slight, minor, mild npdr < mild to moderate < moderate, moderate npdr < moderate to severe <
        severe, marked, major, severe npdr < very severe, extreme, critical, proliferative, proliferative dr,
        proliferate dr, pdr
    none, no, no damage, undamaged, intact < minor, minor damage, slight damage < moderate, moderate damage <
        major, major damage < severe, severe damage < destroyed, collapsed
    none, no, absent, negative < very weak < weak < medium, moderate < strong < very strong
    none, no, absent, normal, healthy, background < early < mid, middle, intermediate < late, advanced
    none, absent, empty, clear < sparse, light < medium, moderate < dense, heavy < very dense, very heavy, congested
    underweight < normal, normal weight < overweight < obese
    normal < osteopenia < osteoporosis
    new < used < worn < worn out
    fresh < half fresh < stale < spoiled, rotten
    raw, rare < medium rare < medium < medium well < well done < overcooked, burnt, burned
    clean < slightly dirty < dirty < very dirty
    sharp < slightly blurry, slightly blurred < blurry, blurred < very blurry, very blurred
    minor < moderate < major < critical
    tiny, very small, extra small, x small < small < medium, mid, middle, average, medium sized < large, big <
        very large, very big, extra large, x large < huge, giant, enormous
    xxs < xs < s < m < l < xl < xxl < xxxl
    never < almost never, rarely, seldom, very rarely < occasionally < sometimes < often, frequently <
        usually, very often < almost always, nearly always < always
    terrible, awful, horrible, worst < very bad < bad < very poor < poor < below average <
        fair, acceptable, satisfactory, adequate, mediocre, average, ok, okay, neutral, medium < above average < good <
        very good < excellent, superb, outstanding, perfect, best
    strongly disagree < disagree < somewhat disagree, slightly disagree <
        neutral, undecided, neither, neither agree nor disagree <
        somewhat agree, slightly agree < agree < strongly agree
    very unlikely < unlikely < possible, neutral < likely < very likely < certain
    very dissatisfied < dissatisfied < neutral < satisfied < very satisfied
    very negative < negative < neutral < positive < very positive
    much worse < worse < same, unchanged, no change, about the same < better < much better
    newborn < baby, infant < toddler < child, kid < teenager, teen, adolescent < young adult < adult <
        elderly, senior, old
    very young < young < middle aged, middle age, adult < old, elderly, senior < very old
    unripe, underripe < partially ripe, half ripe, nearly ripe < ripe < overripe < rotten
    freezing < very cold < cold < cool < mild < warm < hot < very hot
    very slow < slow < medium, moderate < fast, quick < very fast
    very short < short < medium, average < long, tall < very long, very tall
    very light < light < medium, moderate < dark, heavy < very dark, very heavy
    very dark < dark < dim < bright < very bright
    very easy < easy < medium, moderate, intermediate < hard, difficult < very hard, very difficult
    novice, beginner < elementary < intermediate < advanced < expert
    junior < mid, middle, intermediate < senior < lead, principal
    very thin < thin < medium < thick < very thick
    narrow < medium < wide
    shallow < medium < deep
    near, close < medium < far
    empty < half full, half < full
    dry < damp, moist < wet < soaked
    bottom < middle < top
    benign < malignant
    before, pre < during < after, post
    primary < secondary < tertiary
    bronze < silver < gold < platinum
    zero < one < two < three < four < five < six < seven < eight < nine < ten < eleven < twelve
    first < second < third < fourth < fifth < sixth < seventh < eighth < ninth < tenth < eleventh < twelfth
    monday < tuesday < wednesday < thursday < friday < saturday < sunday
    mon < tue < wed < thu < fri < sat < sun
    january < february < march < april < may < june < july < august < september < october < november < december
    jan < feb < mar < apr < may < jun < jul < aug < sep, sept < oct < nov < dec
"""


def _parsed(scales: str) -> list[dict[str, int]]:
    joined = re.sub(r"([<,])\s*\n\s*", r"\1 ", scales.strip())
    return [
        {word.strip(): step for step, words in enumerate(line.split("<")) for word in words.split(",")}
        for line in joined.splitlines()
    ]


_STEPS = _parsed(_SCALES)

_ROMAN = dict(zip("i ii iii iv v vi vii viii ix x xi xii".split(), range(1, 13), strict=True))

# as English and as continental writers have them: signs of thousands, and the one before decimals
_WRITINGS = tuple(
    re.compile(
        rf"(?P<whole>[+−-]?(?:\d+|[1-9]\d{{0,2}}(?P<sign>[{thousands} '’\xa0\u202f])\d{{3}}(?:(?P=sign)\d{{3}})*)?)"
        rf"(?P<decimals>(?:[{decimals}]\d*)?(?:[eE][+-]?\d+)?)"
    )
    for thousands, decimals in (",.", ".,")
)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_NUMBER = r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_BELOW = r"<=?|≤|(?<![a-z])(?:under|below|before|pre|up to|less than|younger than|at most|until)"
_ABOVE = r">=?|≥|(?<![a-z])(?:over|above|after|post|from|more than|older than|at least|since)"
_AND_LESS = r"(?:and|or) (?:under|below|less|younger|earlier|before|lower|fewer)"
_AND_MORE = r"\+|plus|(?:and|or) (?:over|above|more|older|later|after|higher|up)"
_RANGE = re.compile(
    rf"(?P<prefix>[^\d<>≤≥]*?)\s*(?:(?P<below>{_BELOW})[\s-]*|(?P<above>{_ABOVE})[\s-]*)?"
    rf"(?<![\d.])(?P<low>{_NUMBER})(?P<ending>st\b|nd\b|rd\b|th\b|s\b|[a-d]\b)?"
    rf"(?:\s*(?:-|–|—|\bto\b|\.\.)\s*(?P<high>{_NUMBER})(?P<ending2>st\b|nd\b|rd\b|th\b|s\b)?)?"
    rf"\s*(?:(?P<less>{_AND_LESS})|(?P<more>{_AND_MORE}))?\s*(?P<suffix>[^\d<>≤≥+]*)"
)
_INTERVAL = re.compile(r"[(\[]\s*([^,\s]+)\s*,\s*([^,\s]+)\s*[)\]]")
_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})(?:[-/.](\d{1,2}))?")

# between words without spaces, as VeryMild
_JOINED = re.compile(r"(?<=[a-z]{2})(?=[A-Z][a-z])")
_PLACE = re.compile(r"(\d{1,3})\s*[-.:)]?\s*([^\W\d].*)")

# no label that somebody gives is longer, and regular expressions are slow on such
_MAX_LENGTH = 100

_Key = tuple[float, float, str]


def plain_order(labels: Iterable[str]) -> list[str] | None:
    """Put distinct words into the order that is plain to see, lowest first; None where none is plain, or two are."""
    words = [str(label) for label in labels]
    if len(words) < 2 or max(map(len, words)) > _MAX_LENGTH:
        return None
    simple = [_simple(word) for word in words]
    if len(written_numbers(simple)) > 1:
        return None
    for keys_of in (_of_numbers, _of_intervals, _of_dates, _of_ranges, _of_scales, _of_numerals, _of_places):
        keys = keys_of(simple)
        if keys is not None and len(set(keys)) == len(words):
            return [words[i] for i in sorted(range(len(words)), key=keys.__getitem__)]
    return None


def written_numbers(words: Sequence[str]) -> list[list[float]]:
    """Numbers that words may be, all of them written in the same way; several where they may be read in two ways.

    2,5 and 10 are 2.5 and 10, 1,000,000 and 500 are whole, and 2,500 beside 10 may be 2.5 or 2500. Where all have a
    point and three digits behind it, as 1.000 and 1.500, it is that of decimals, which changes no order.
    """
    english, continental = ([_written(word, writing) for word in words] for writing in _WRITINGS)
    found: list[list[float]] = [each for each in (english, continental) if None not in each]  # type: ignore[misc]
    if len(found) == 2 and (found[0] == found[1] or all("." in word for word in words)):
        return found[:1]
    return found


def _written(word: str, writing: re.Pattern[str]) -> float | None:
    match = writing.fullmatch(word)
    if match is None or not re.search(r"\d", word.partition("e")[0].partition("E")[0]):
        return None
    whole = re.sub(r"[^\d+-]", "", match["whole"].replace("−", "-"))
    return int(whole) if not match["decimals"] else float(whole + match["decimals"].replace(",", "."))


def spoken(names: Sequence[str]) -> list[str]:
    """Names of ranks as one would say them: ``No_DR`` as "No DR", ``VeryMild`` as "Very Mild".

    Places that stand before all of them are left out, as of ``0_healthy`` and ``1_rusty``.
    """
    apart = [_apart(name) for name in names]
    simple = [_simple(name) for name in names]
    if len(names) < 2 or max(map(len, names)) > _MAX_LENGTH or _of_places(simple) is None or _of_ranges(simple):
        return apart
    rest = [match[2] for match in map(_PLACE.fullmatch, apart) if match]
    return rest if len({word.casefold() for word in rest}) == len(names) else apart


def _apart(word: str) -> str:
    return " ".join(_JOINED.sub(" ", word).replace("_", " ").split())


def _simple(word: str) -> str:
    return re.sub(r"[$€£%°]", "", _apart(word).casefold())


def _of_numbers(words: Sequence[str]) -> list[_Key] | None:
    values = [_number(word) for word in words]
    return [(value, 0, "") for value in values] if all(map(math.isfinite, values)) else None


def _of_places(words: Sequence[str]) -> list[_Key] | None:
    """Keys of words with their places before them, as folders often have them: ``0 healthy``, ``1 rusty``."""
    matches = [_PLACE.fullmatch(word) for word in words]
    places = [int(match[1]) for match in matches if match]
    if len(places) < len(words) or sorted(places) != list(range(min(places), min(places) + len(places))):
        return None
    return [(place, 0, "") for place in places]


def _of_intervals(words: Sequence[str]) -> list[_Key] | None:
    """Keys of intervals as pandas prints them."""
    matches = [_INTERVAL.fullmatch(word) for word in words]
    keys = [(_number(match[1]), _number(match[2]), "") for match in matches if match]
    if len(keys) < len(words) or any(math.isnan(low) or math.isnan(high) for low, high, _ in keys):
        return None
    return keys if _both_ends_ascend(keys) else None


def _both_ends_ascend(keys: list[_Key]) -> bool:
    ends = [high for _, high, _ in sorted(keys)]
    return ends == sorted(ends)


def _of_dates(words: Sequence[str]) -> list[_Key] | None:
    matches = [_DATE.fullmatch(word) for word in words]
    keys: list[_Key] = []
    for match in matches:
        if match is None or not 1 <= int(match[2]) <= 12 or (match[3] is None) != (matches[0][3] is None):  # type: ignore[index]
            return None
        keys.append((int(match[1]), int(match[2]), (match[3] or "").zfill(2)))
    return keys


def _of_ranges(words: Sequence[str]) -> list[_Key] | None:
    """Keys of numbers and ranges with the same words around them, whose lower and upper ends both ascend."""
    keys: list[_Key] = []
    around = set()
    for word in words:
        match = _RANGE.fullmatch(word)
        if match is None or (match["low"] and _number(match["low"]) > _number(match["high"] or match["low"])):
            return None
        if re.search(r"(?:^|\s)[-−]$", match["prefix"]):  # the sign of a number, or a dash
            return None
        low, high = _number(match["low"]), _number(match["high"] or match["low"])
        if match["below"] or match["less"]:
            low = -math.inf
        if match["above"] or match["more"]:
            high = math.inf
        ending = match["ending"] or ""
        sub = ending if ending in ("a", "b", "c", "d") else ""
        around.add((match["prefix"].strip(" -:"), match["suffix"].strip(" -:").removesuffix("s"), ending == "s"))
        keys.append((low, high, sub))
    is_open = {low == -math.inf or high == math.inf for low, high, _ in keys}
    plain = len(around) == 1 or (len({place[:2] for place in around}) == 1 and True in is_open)
    return keys if plain and _both_ends_ascend(keys) else None


def _number(text: str) -> float:
    if "," in text and not _THOUSANDS.fullmatch(text):  # a decimal comma
        return math.nan
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return math.nan


def _of_scales(words: Sequence[str]) -> list[_Key] | None:
    """Keys of words that all stand on one scale; None where two scales disagree."""
    words = [" ".join(word.replace("-", " ").split()) for word in words]
    for candidates in (words, _without_shared(words)):
        orders = {
            tuple(sorted(range(len(words)), key=[scale[word] for word in candidates].__getitem__))
            for scale in _STEPS
            if all(word in scale for word in candidates) and len({scale[word] for word in candidates}) == len(words)
        }
        if len(orders) == 1:
            places = {i: place for place, i in enumerate(orders.pop())}
            return [(places[i], 0, "") for i in range(len(words))]
    return None


def _of_numerals(words: Sequence[str]) -> list[_Key] | None:
    """Keys of Roman numerals, with a letter behind them or none."""
    keys: list[_Key] = []
    for word in _without_shared([" ".join(word.replace("-", " ").split()) for word in words]):
        match = re.fullmatch(r"([ivx]+)\s?([a-d]?)", word)
        if match is None or match[1] not in _ROMAN:
            return None
        keys.append((_ROMAN[match[1]], 0, match[2]))
    return keys


def _without_shared(words: Sequence[str]) -> list[str]:
    """Leave out the whole words that all begin or end with."""
    parts = [word.split() for word in words]
    for end in (0, -1):
        while min(len(part) for part in parts) > 1 and len({part[end] for part in parts}) == 1:
            parts = [part[1:] if end == 0 else part[:-1] for part in parts]
    return [" ".join(part) for part in parts]
