"""Captions that name a property and a level, in many phrasings, and the phrasings that training never shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rendering import PROPERTIES

Generator = np.random.Generator

# nouns and adjectives for each property
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "blur": (("blur", "blurriness", "softness", "unsharpness"), ("blurred", "blurry", "unsharp", "out of focus")),
    "noise": (("noise", "grain", "noisiness"), ("noisy", "grainy")),
    "compression": (("compression", "jpeg artefacts", "blockiness"), ("compressed", "blocky")),
    "brightness": (("brightness", "lightness", "exposure"), ("bright", "light", "exposed")),
    "saturation": (("saturation", "colourfulness", "vividness"), ("saturated", "colourful", "vivid")),
    "contrast": (("contrast", "contrasts"), ("contrasty", "high in contrast")),
    "warmth": (("warmth", "warmness", "colour temperature"), ("warm", "warmly coloured")),
    "decade": (("decade", "period", "time", "years"), ()),
    "count": (("count", "number of things", "number of dots", "number of shapes", "amount of objects"), ()),
    "size": (("size", "diameter", "bigness", "width"), ("big", "large", "wide")),
    "fill": (("fill", "fill level", "fullness", "filling"), ("full", "filled")),
    "distance": (("distance", "farness", "remoteness"), ("far", "distant", "far away", "remote")),
    "wear": (("wear", "damage", "scratches"), ("worn", "damaged", "scratched", "used")),
    "age": (("age", "years of age", "age in years"), ()),
    "digit": (("digit", "handwritten digit", "written number", "figure", "numeral"), ()),
}
# objects of each property; photographs' properties share theirs
OBJECTS: dict[str, tuple[str, ...]] = {
    "count": ("dots", "shapes", "things", "objects"),
    "size": ("a shape", "a thing", "an object", "a form"),
    "fill": ("a glass", "a cup", "a container", "a vessel"),
    "distance": ("a house", "a tree", "a person", "an object"),
    "wear": ("a surface", "a wall", "a board", "a floor"),
    "age": ("a face", "a person", "a man", "a woman", "somebody"),
    "digit": ("a digit", "a handwritten digit", "a number", "handwriting"),
    "decade": ("an old photo", "a photo", "a print", "a picture"),
}
OPENERS = (
    "a photo", "a photo of", "a picture", "a picture of", "an image", "an image of", "a drawing of", "this photo",
    "this picture", "this image", "the photo", "the picture", "the image", "a shot of", "one photo", "a small picture",
)  # fmt: skip
FILLERS = (
    "the a an of in on at with and is it this that here there what we you see look shows showing seen good "
    "nice simple plain some any very small little single whole our your my real now today quite just only "
    "same other new true clear for from to by as or much not all more most about how which please note "
    "measured rated given estimated quality scale value degree grade rating score level measure judged visual "
    "person object scene camera view"
).split()
ADVERBS = ("not at all", "hardly", "slightly", "fairly", "quite", "very", "extremely")
GRADES = ("bad", "poor", "fair", "good", "excellent")
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
# {o} object, {n} noun, {a} adjective, {v} level; the level last, first and in the middle
TEMPLATES = (
    "{o} with {n} {v}", "{o} with {n} level {v}", "{o} with a {n} of {v}", "{o} , {n} {v}", "{o} : {n} {v}",
    "{n} {v}", "{n} : {v}", "{n} level {v}", "{n} of {v}", "the {n} is {v}", "the {n} of {o} is {v}",
    "{o} whose {n} is {v}", "{n} measured : {v}", "{n} value {v}", "{o} at {n} {v}", "{n} degree {v}",
    "{v} {n}", "{v} : {n}", "{o} {v} {n}", "level {v} of {n}", "{v} is the {n} of {o}", "{n} {v} in {o}",
)  # fmt: skip
ADJECTIVE_TEMPLATES = (
    "how {a} : {v}", "{o} that is {a} {v}", "{a} {v}", "{o} {a} to degree {v}", "{o} , {a} level {v}", "{a} : {v}",
    "{v} points {a}", "{o} is {a} , {v}",
)  # fmt: skip
OWN_TEMPLATES: dict[str, tuple[str, ...]] = {
    "decade": ("a photo taken in the {v}", "a photo from the {v}", "{o} taken in {v}", "{o} of the {v}", "{v}"),
    "count": ("{v} {o}", "a picture of {v} {o}", "there are {v} {o}", "{o} : {v}", "how many {o} : {v}"),
    "age": ("{o} aged {v}", "{o} of age {v}", "{o} who is {v}", "{o} {v} years old", "{v} years old", "how old : {v}"),
    "digit": ("{o} {v}", "{o} : {v}", "the digit {v}", "handwritten {v}", "{v}", "a picture of the number {v}"),
    "distance": ("{o} {v} away", "how far : {v}"),
    "wear": ("condition {v}",),
}
# never in training, and made of words that are: the level last, as in a rank prompt
UNSEEN_TEMPLATES = (
    "we rated the {n} of this {v}",
    "please note how much {n} you see : {v}",
    "judged by its {n} it is a {v}",
)


def level_text(name: str, level: int, style: str = "digits") -> str:
    """A level as digits, or as words up to twenty; decades with their s."""
    if name == "decade":
        return f"{level}s"
    if style == "words" and level <= 20:
        return NUMBER_WORDS[level]
    return str(level)


@dataclass(frozen=True)
class Phrasing:
    """One way of saying every level of a property.

    Attributes
    ----------
    name : str
        The property.
    texts : tuple of str
        A caption for each place on the scale.
    levels : tuple of float
        Where each caption lies, in the unit of the property's levels.
    width : float
        Distance between neighbouring captions.
    """

    name: str
    texts: tuple[str, ...]
    levels: tuple[float, ...]
    width: float


def random_phrasing(name: str, rng: Generator) -> Phrasing:
    """Phrasing for training: numbers, or now and then adverbs or grades; held-out levels do not occur."""
    adjectives = WORDS[name][1]
    draw = rng.random()
    if adjectives and draw < 0.12:
        return _worded(name, ADVERBS, "{w} " + _pick(adjectives, rng), rng)
    if name in ("wear", "fill", "distance") and draw < 0.2:
        grades = GRADES[::-1] if name == "wear" else GRADES
        frame = {"wear": "condition : {w}", "fill": "{w} filling", "distance": "{w} distance"}[name]
        return _worded(name, grades, frame, rng)
    spec = PROPERTIES[name]
    template = _template(name, rng)
    style = "words" if rng.random() < 0.15 else "digits"
    texts = tuple(template.replace("{v}", level_text(name, level, style)) for level in spec.captioned)
    step = float(np.median(np.diff(spec.levels)))
    return Phrasing(name, texts, tuple(float(level) for level in spec.captioned), step)


def _template(name: str, rng: Generator) -> str:
    """Everything but the level, with the property's words, an opening and words that mean nothing."""
    nouns, adjectives = WORDS[name]
    own = OWN_TEMPLATES.get(name, ())
    draw = rng.random()
    if own and draw < 0.4:
        template = _pick(own, rng)
    elif adjectives and draw > 0.7:
        template = _pick(ADJECTIVE_TEMPLATES, rng)
    else:
        template = _pick(TEMPLATES, rng)
    template = template.replace("{n}", _pick(nouns, rng)).replace("{a}", _pick(adjectives or nouns, rng))
    thing = _pick(OBJECTS.get(name, ("something", "a place", "a thing", "a scene", "a view")), rng)
    opener = _pick(OPENERS, rng) if rng.random() < 0.6 else ""
    if "{o}" in template and name in OBJECTS and name != "decade":
        template = template.replace("{o}", thing if rng.random() < 0.5 else f"{opener} {thing}")
    elif "{o}" in template:
        template = template.replace("{o}", opener.removesuffix(" of") or thing)
    elif rng.random() < 0.3:
        template = f"{opener} , {template}"
    words = template.split()
    for _ in range(rng.choice([0, 1, 2, 3, 5, 7], p=[0.4, 0.2, 0.15, 0.1, 0.08, 0.07])):
        words.insert(int(rng.integers(len(words) + 1)), _pick(FILLERS, rng))
    return " ".join(words)


def _worded(name: str, scale: tuple[str, ...], frame: str, rng: Generator) -> Phrasing:
    levels = PROPERTIES[name].levels
    places = np.linspace(levels[0], levels[-1], len(scale))
    opener = _pick(OPENERS, rng).removesuffix(" of") if rng.random() < 0.6 else ""
    texts = tuple(f"{opener} {frame.replace('{w}', word)}".strip() for word in scale)
    return Phrasing(name, texts, tuple(float(place) for place in places), float(places[1] - places[0]))


def _pick(options: tuple[str, ...] | list[str], rng: Generator) -> str:
    return options[int(rng.integers(len(options)))]


def test_prompts(name: str) -> tuple[list[str], list[str]]:
    """Prompts that end where the level follows: such as training shows, and such as it never shows."""
    noun = WORDS[name][0][0]
    seen = {
        "decade": ["a photo taken in the", "a photo from the"],
        "age": ["a face aged", "age in years :"],
        "digit": ["the digit", "a handwritten digit"],
        "count": ["how many dots :", "a picture with count"],
    }.get(name, [f"a photo with {noun} level", f"the {noun} is"])
    return seen, [template.replace("{n}", noun).replace(" {v}", "") for template in UNSEEN_TEMPLATES]
