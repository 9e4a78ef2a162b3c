"""The card of a fitted model, `README.md` of its repository: what the model knows of itself, and what it was told.

No path, name of a user or image is part of it. Words of the user's stand in it as they are, whatever Markdown and YAML
make of their letters.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from skl2rclip._clip.backbone import hub_repository
from skl2rclip._clip.embedded import EMBEDDED_NAMES
from skl2rclip._clip.source import HUB_PREFIX
from skl2rclip._deploy.description import VERSIONS, named
from skl2rclip._deploy.evaluation import COVERAGE_IN_WORDS, Evaluation
from skl2rclip._model.state import FittedState
from skl2rclip._ordinal.labels import holds_numbers
from skl2rclip._settings import Settings
from skl2rclip.errors import visible

# stand for the repository, and for its last part, until it is known
REPOSITORY, UNNAMED = "YOUR-NAME/YOUR-MODEL", "YOUR-MODEL"
MATRIX_FILE = "confusion.png"
_TAGS = ["skl2rclip", "scikit-learn", "clip", "ordinal-classification", "ordinal-regression"]
# what Markdown, or what is written into it, may take for more than letters
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$#])")
# ranks with fewer images are named
_FEW_IMAGES = 5
_MAX_NAMED = 10
# of zero-shot CLIP, that is worth a line
_MIN_SHARE = 0.005
_CITATION = """\
```bibtex
@inproceedings{l2rclip,
  title     = {Learning-to-Rank Meets Language: Boosting Language-Driven Ordering Alignment for Ordinal Classification},
  author    = {Wang, R. and Li, P. and Huang, H. and Cao, C. and He, R. and He, Z.},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  note      = {arXiv:2306.13856}
}
```"""


class RankModelCard(ModelCard):
    """A `huggingface_hub.ModelCard` with the files that stand beside it.

    Attributes
    ----------
    data : ModelCardData
        The front matter.
    text : str
        Everything below.
    files : dict of str to bytes
        Their contents by name.
    """

    def __init__(self, content: str, ignore_metadata_errors: bool = False, files: Mapping[str, bytes] | None = None):
        super().__init__(content, ignore_metadata_errors=ignore_metadata_errors)
        self.files = dict(files or {})

    def save(self, filepath: Path | str) -> None:
        """Write the card as a file, and its files beside it.

        Parameters
        ----------
        filepath : path
            Its name, such as README.md; folders on the way are made.
        """
        super().save(filepath)
        for name, content in self.files.items():
            Path(filepath).with_name(name).write_bytes(content)

    def of(self, repository: str) -> RankModelCard:
        """Return the same with the name of the repository that it is to stand in."""
        card = RankModelCard(str(self), files=self.files)
        card.text = card.text.replace(REPOSITORY, repository)
        if card.data.get("model_name") == UNNAMED:
            card.data["model_name"] = repository.rpartition("/")[2]
        return card

    def _repr_markdown_(self) -> str:
        return self.text


def make_card(
    state: FittedState,
    settings: Settings,
    evaluation: Evaluation | None,
    *,
    matrix: bytes | None = None,
    license: str | None = None,
    dataset_name: str | None = None,
) -> RankModelCard:
    """Write a card; see `L2RCLIPClassifier.model_card`."""
    of_data = "" if dataset_name is None else f" of {_words(dataset_name)}"
    parts = [
        _heading(state, settings),
        _use(state, settings),
        _ranks(state, settings),
        _learned_from(state, settings),
        _evaluated(state, settings, evaluation, of_data, has_matrix=matrix is not None),
        _images(state, settings),
        _limits(state, settings, evaluation),
        f"## Versions\n\n{_versions()}",
        f"## Citation\n\n{_CITATION}",
    ]
    data = _front_matter(state, settings, evaluation, license, dataset_name)
    content = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"
    return RankModelCard(content, files=None if matrix is None else {MATRIX_FILE: matrix})


# -------------------------------------------------------------- front matter


def _front_matter(
    state: FittedState,
    settings: Settings,
    evaluation: Evaluation | None,
    license: str | None,
    dataset_name: str | None,
) -> ModelCardData:
    base = hub_repository(state.named_source(settings))
    more: dict[str, Any] = {}
    if base is not None:
        more["base_model_relation"] = "finetune" if "tower" in state.arrays else "adapter"
    if evaluation is not None:
        results = [
            EvalResult(
                task_type="image-classification",
                # model-index wants both
                dataset_type="unknown",
                dataset_name="Unknown" if dataset_name is None else visible(dataset_name),
                metric_type=score.key,
                metric_name=score.name,
                metric_value=round(score.value, 4),
            )
            for score in evaluation.scores
        ]
        more |= {"eval_results": results, "model_name": UNNAMED}
    return ModelCardData(
        library_name="skl2rclip",
        pipeline_tag="image-classification",
        tags=list(_TAGS),
        license=license,
        base_model=base,
        **more,
    )


# ------------------------------------------------------------------ sections


def _heading(state: FittedState, settings: Settings) -> str:
    names = state.scale.names
    how = "is zero-shot CLIP, by the words of the ranks," if state.is_of_words_alone else "was fitted by L2RCLIP"
    return (
        f"# From {_words(names[0])} to {_words(names[-1])}: ranks of images\n\n"
        f"This model gives images one of {len(names)} ordered ranks, with probabilities. It {how} on the backbone "
        f"{_words(named(state.named_source(settings)))}, with the library skl2rclip, whose models are classifiers of "
        "scikit-learn."
    )


def _use(state: FittedState, settings: Settings) -> str:
    source = state.named_source(settings)
    extra = "[photo]" if source.model_name == EMBEDDED_NAMES[1] else ""
    text = f"""## Use

```sh
pip install "skl2rclip{extra}"
```

```python
from skl2rclip import L2RCLIPClassifier
clf = L2RCLIPClassifier.from_pretrained("{REPOSITORY}")
clf.predict(["image.jpg"])
```

`clf.predict_proba` gives probabilities, with columns in the order of `clf.classes_`, and `clf.predict_interval` the
ranks between which an image probably lies. Nothing is unpickled, and no code of this repository runs."""
    if not state.needs_backbone or source.model_name in EMBEDDED_NAMES:
        return text
    backbone = _words(named(source))
    if source.model_name.startswith(HUB_PREFIX):
        return (
            f"{text}\n\nUnless this repository has a folder `backbone`, the backbone {backbone} is looked for in the "
            "cache of the hub's client, and where it is not there an error says how to allow that it is fetched."
        )
    if hub_repository(source) is not None:
        return f"{text} Unless this repository has a folder `backbone`, open_clip's {backbone} is fetched once."
    return (
        f"{text}\n\nUnless this repository has a folder `backbone`, the weights of the backbone, {backbone}, have to "
        "be on your machine, and `clf.set_params(model_name=..., pretrained=...)` says where."
    )


def _ranks(state: FittedState, settings: Settings) -> str:
    scale = state.scale
    has_words = [str(label) for label in scale.ranks.tolist()] != list(scale.names)
    columns: dict[str, Iterable[str]] = {"rank": (_label(label) for label in scale.ranks.tolist())}
    if has_words:
        columns["words"] = (_words(name) for name in scale.names)
    columns["images learned from"] = (str(n) for n in state.n_images)
    how = {
        "median": "the median of the probabilities, of the least error in ranks",
        "argmax": "the likeliest rank",
        "mean": "the rank nearest to the expected value",
    }[settings.decision]
    return (
        "## Ranks\n\nLowest first:\n\n"
        f"{_table(columns)}\n\n"
        f'The prompt is "{_words(state.structure["prompt"])}", and training starts from "{_words(state.tokens.text)}". '
        f"`predict` gives {how}."
    )


def _learned_from(state: FittedState, settings: Settings) -> str:
    n_images = state.n_learned_from
    if state.is_of_words_alone or not n_images:
        return "## What it has learned from\n\nNo images: it is zero-shot CLIP, and knows the words of the ranks alone."
    groups = (
        "; which of them belong together, as those of one patient or plant do, the fit was not told"
        if state.n_groups is None
        else f" of {_counted(state.n_groups, 'group')} that belong together, each left out as a whole where something "
        "was measured"
    )
    tower = "fine-tuned" if "tower" in state.arrays else "frozen"
    read = {
        "embedding": "its embedding is",
        "tower": "states inside of it are",
        "both": "its embedding and states inside of it are",
    }
    lines = [
        f"{_counted(n_images, 'image')}{groups}.",
        f"The image tower is {tower}, and {read[state.features]} read.",
    ]
    if state.n_views > 1:
        lines.append(f"Each image counts in {state.n_views} views: itself, its mirror image, and windows of it.")
    if state.zero_shot_share >= _MIN_SHARE:
        lines.append(f"Zero-shot CLIP has a share of {_percent(state.zero_shot_share)} of the log-probabilities.")
    if state.noise is not None and state.trust is not None:
        unit = "" if holds_numbers(state.scale.ranks) else " ranks"
        lines.append(
            f"A regression on what is read explains {_percent(max(0.0, state.trust))} of the labels' variance in "
            f"images that are left out, and is off by {state.noise:.2g}{unit} as a root mean square."
        )
    return "## What it has learned from\n\n" + "\n".join(f"- {line}" for line in lines)


def _evaluated(
    state: FittedState, settings: Settings, evaluation: Evaluation | None, of_data: str, *, has_matrix: bool
) -> str:
    if evaluation is None:
        return "## Evaluation\n\nNo images were handed in for this card: how far the model is off is not known here."
    n = len(evaluation.true)
    groups = "" if evaluation.n_groups is None else f" of {_counted(evaluation.n_groups, 'group')}"
    unit = "in the unit of the ranks' numbers" if holds_numbers(state.scale.ranks) else "in ranks"
    table = _table(
        {
            "score": (score.name for score in evaluation.scores),
            "value": (_figure(score.value) for score in evaluation.scores),
            "95 % of draws": (
                "" if score.bounds is None else " to ".join(map(_figure, score.bounds)) for score in evaluation.scores
            ),
        }
    )
    drawn = "groups" if evaluation.n_groups is not None else "images"
    by_rank = _table(
        {
            "rank": (_label(label) for label in state.scale.ranks.tolist()),
            "images": (str(count) for count in evaluation.n_images.tolist()),
            "mean absolute error": (_figure(error) for error in evaluation.errors.tolist()),
            f"in the {COVERAGE_IN_WORDS} interval": (_figure(held) for held in evaluation.held.tolist()),
        }
    )
    text = (
        f"## Evaluation\n\nOn {_counted(n, 'image')}{groups}{of_data}, which whoever made this card handed in; errors "
        f"are {unit}. The third column is of {drawn} drawn again with replacement. The best answer that is always "
        f"the same has an error of {_figure(evaluation.constant_error)}.\n\n{table}\n\n"
        f"By true rank:\n\n{by_rank}"
    )
    return text + (f"\n\n![Confusion matrix in rank order]({MATRIX_FILE})" if has_matrix else "")


def _images(state: FittedState, settings: Settings) -> str:
    height, width = state.record.preprocessing.size
    white = settings.white_level
    level = "the full range of the type is taken" if white is None else f"{white:g} is white (`white_level`)"
    mirror = " Predictions are the mean of those of an image and its mirror image." if settings.mirror else ""
    return (
        "## What an image has to be\n\n"
        f"A file, a PIL image or an array of whatever size, in grey or in colours in the order red, green, blue; it is "
        f"brought to {width} x {height} pixels. Of images with more than eight bits {level}.{mirror}"
    )


def _limits(state: FittedState, settings: Settings, evaluation: Evaluation | None) -> str:
    limits = [
        "Every image is given a rank, also one that shows nothing of what is graded, and nothing warns of it.",
        "Ranks and probabilities hold for images of the kind that it was fitted and evaluated on; those of another "
        "camera, place or way of taking are to be evaluated anew.",
    ]
    if len(state.scale.ranks) < 10:
        limits.append(
            f"Intervals end at whole ranks: with {len(state.scale.ranks)} ranks one of {COVERAGE_IN_WORDS} holds more "
            "than that where probabilities are right."
        )
    few = [label for label, n in zip(state.scale.ranks.tolist(), state.n_images, strict=True) if n < _FEW_IMAGES]
    if few and state.n_learned_from:
        named_ranks = ", ".join(_label(label) for label in few[:_MAX_NAMED])
        more = f" and {len(few) - _MAX_NAMED} more" if len(few) > _MAX_NAMED else ""
        limits.append(
            f"Of these ranks fewer than {_FEW_IMAGES} images were there, and the order and the words of the ranks "
            f"stand in for them: {named_ranks}{more}."
        )
    if state.n_groups is None and state.n_learned_from:
        limits.append("Where several of its images showed one thing, images of new things may have larger errors.")
    if evaluation is not None and evaluation.n_groups is None:
        limits.append(
            "The draws of the evaluation take each image for itself: where several show one thing, the scores are less "
            "certain than they say."
        )
    if settings.model_name not in EMBEDDED_NAMES:
        limits.append(
            "The backbone has learned from images and words that others chose, with what these are biased in."
        )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _versions() -> str:
    names = [*VERSIONS, "scikit-learn"]
    versions = {"Python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


# ------------------------------------------------------------------ Markdown


def _table(columns: Mapping[str, Iterable[str]]) -> str:
    """Write columns of cells, which are Markdown already, as a table."""
    cells: Sequence[Sequence[str]] = [list(column) for column in columns.values()]
    rows = [list(columns), ["---"] * len(cells), *zip(*cells, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _words(text: str) -> str:
    """Write a user's words in one line, of letters that mean nothing but themselves."""
    return _SPECIAL.sub(r"\\\1", visible(text))


def _label(label: Any) -> str:
    return _words(str(label))


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _figure(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
