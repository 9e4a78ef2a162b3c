"""Words of our own, where the field has one, do not come back: in names, documentation, comments and messages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# what is not to be written: what is written instead
WORDS = {
    r"rehears": "epoch selection",
    r"contest": "candidate selection",
    r"foret[eo]l": "predict, out-of-fold score",
    r"\blikene?[sd]?\b": "training target",
    r"check_maker|maker_of": "fingerprint",
    r"the business of": "is done by, is left to",
    r"\brooms\b": "modules",
    r"is_settled|_settle\b": "is_stable, flush",
    r"gave apart|(given|before|n|is|with|check)_apart\b": "validation",
    r"as_the_first": "broadcast",
    r"\b_?(LARGEST|MOST|LONGEST)_[A-Z]": "MAX",
    r"\b_?(LEAST|FEWEST|SMALLEST)_[A-Z]": "MIN",
    r"[Pp]ictur": "image",
}
# a public name, titles, prompts and captions that have been learned from
ALLOWED = re.compile(
    r"SortedPicturesDisplay|https?://\S+|hidden beauty of Flickr pictures|a picture that is \{\} blurred"
    r"|a picture with \w+ level"
)
# captions
SKIPPED = {"tests/project/test_words.py", "tools/captions.py"}


def written():
    """Every text of the checkout by its path."""
    folders = ("skl2rclip", "tests", "docs", "benchmarks", "examples", "tools")
    paths = [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    paths += [path for folder in folders for kind in ("py", "md") for path in (ROOT / folder).rglob(f"*.{kind}")]
    names = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {
        name: ALLOWED.sub("", path.read_text(encoding="utf-8")) for name, path in names.items() if name not in SKIPPED
    }


TEXTS = written()


@pytest.mark.parametrize("word", WORDS)
def test_words_of_our_own_are_not_used_where_the_field_has_one(word):
    found = [
        f"{name}: {match[0]!r}, write {WORDS[word]}"
        for name, text in TEXTS.items()
        for match in re.finditer(word, text)
    ]
    found += [f"{name}: its name, write {WORDS[word]}" for name in TEXTS if re.search(word, name)]
    assert found == []
