"""Saved models at work: loaded with what the command line says, and asked for chunks of images, bad ones apart."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from skl2rclip._classifier import L2RCLIPClassifier
from skl2rclip._cli.console import Console, DataError, UsageError
from skl2rclip._cli.inputs import NamedImage, in_chunks, may_be_image
from skl2rclip._cli.parsing import add_parameters, parameters_of, user_path
from skl2rclip._images.files import address_hint
from skl2rclip._ordinal.decisions import central_interval, expected_value, read_out
from skl2rclip._settings import checked
from skl2rclip._utils.arguments import check_real
from skl2rclip._utils.progress import progress_bar
from skl2rclip.errors import UnreadableImagesError, visible

# of a saved model, what may differ from run to run
RUNNING = ("device", "precision", "batch_size", "n_jobs", "max_memory", "embedding_cache")
# where it is, as `L2RCLIPClassifier.load` takes it
BACKBONE = {
    "model_name": "Where the backbone is, instead of what the folder says; or the same, as a permission to fetch it.",
    "pretrained": "Likewise its weights.",
}


def add_model(parser: Any, *parameters: str) -> None:
    """Add the saved model, where its backbone is, and parameters that may be set after a fit."""
    parser.add_argument("model", metavar="MODEL", type=user_path, help="Folder of a saved model.")
    group = parser.add_argument_group("parameters of the model, which are otherwise as they were saved")
    add_parameters(group, L2RCLIPClassifier, (*BACKBONE, *parameters), BACKBONE)


def loaded_model(options: argparse.Namespace, *, reads_images: bool = True) -> L2RCLIPClassifier:
    """Load the model, with the parameters that were given, which are checked before."""
    given = parameters_of(options)
    checked(given)
    backbone = {name: given.pop(name) for name in BACKBONE if name in given}
    model = L2RCLIPClassifier.load(options.model, **backbone).set_params(verbose=0, **given)
    if reads_images and model.image_tower == "precomputed":
        raise UsageError(
            f"{visible(options.model)} was fitted on a table of features (image_tower='precomputed'), and the command "
            "line reads images"
        )
    return model


# -------------------------------------------------------------------- chunks


class Pass:
    """One pass over images, chunk by chunk; what cannot be read is said and left out.

    Parameters
    ----------
    console : Console
    ask : callable
        What is asked of a list of paths; it raises `UnreadableImagesError`.

    Attributes
    ----------
    n_bad : int
        Images that were left out.
    n_good : int
    """

    def __init__(self, console: Console, ask: Callable[[list[str]], Any]):
        self._console, self._ask = console, ask
        self.n_bad = self.n_good = 0
        self._n_others = 0

    def over(
        self, images: Iterable[NamedImage], bar: bool, what: str
    ) -> Iterator[tuple[list[NamedImage], np.ndarray, Any]]:
        """Hand out the images of each chunk, which of them are good, and what is answered for these.

        Files of folders that are no images are counted, and are not among them.
        """
        total = len(images) if isinstance(images, list) else None
        with progress_bar(int(bar), what, total, "image") as shown:
            for chunk in in_chunks(images):
                problems, answer = self._asked(chunk)
                others = {row for row in problems if chunk[row].is_found and not may_be_image(chunk[row].path)}
                self._n_others += len(others)
                rows = [row for row in range(len(chunk)) if row not in others]
                self._note(chunk, rows, problems)
                yield [chunk[row] for row in rows], np.array([row not in problems for row in rows], bool), answer
                shown.update(len(chunk))
        if self._n_others:
            self._console.note(f"files in folders that are no images, and were passed over: {self._n_others}")

    def gathered(
        self, chunks: Iterable[tuple[Any, np.ndarray, Predicted | None]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Wait for all chunks: which images are good, (n,), and of these the probabilities and the usualness."""
        goods, parts = [], []
        for _, is_good, said in chunks:
            goods.append(is_good)
            parts += [] if said is None else [said]
        self.end()
        scores = [said.usualness for said in parts if said.usualness is not None]
        probabilities = np.concatenate([said.probabilities for said in parts])
        return np.concatenate(goods), probabilities, np.concatenate(scores) if scores else None

    def end(self) -> int:
        """Return the exit status: 1 where images were left out; raise where there are no others."""
        if not self.n_good:
            raise DataError("no image could be read" if self.n_bad else "there is no image among what was named")
        return 1 if self.n_bad else 0

    def _asked(self, chunk: list[NamedImage]) -> tuple[dict[int, str], Any]:
        """Why images of a chunk cannot be read, by their places in it, and the answer for all others."""
        known = {row: _problem_of(image) for row, image in enumerate(chunk)}
        problems = {row: problem for row, problem in known.items() if problem is not None}
        while len(problems) < len(chunk):
            good = [row for row in range(len(chunk)) if row not in problems]
            try:
                return problems, self._ask([chunk[row].path for row in good])
            except UnreadableImagesError as error:
                problems |= {good[row]: reason for row, reason in error.failures.items()}
        return problems, None

    def _note(self, chunk: list[NamedImage], rows: list[int], problems: dict[int, str]) -> None:
        bad = [row for row in rows if row in problems]
        for row in bad:
            self._console.bad_image(chunk[row].name, problems[row])
        self.n_bad += len(bad)
        self.n_good += len(rows) - len(bad)


def _problem_of(image: NamedImage) -> str | None:
    """Why there is nothing to open, where that is plain."""
    if not image.path:
        return "no image is named"
    address = address_hint(image.name, "store the file, and give its path")
    return image.problem if address is None else f"this is {address}"


# ----------------------------------------------------------------- predictions


@dataclass(frozen=True)
class Predicted:
    """What a model says of n images, along its ranks."""

    ranks: np.ndarray  # (K,)
    words: list[str]  # of the ranks
    probabilities: np.ndarray  # (n, K)
    predicted: np.ndarray  # (n,), positions
    expectation: np.ndarray  # (n,)
    interval: np.ndarray | None  # (n, 2), positions
    usualness: np.ndarray | None = None  # (n,), scores beyond those of all but 1% of the training images

    @property
    def labels(self) -> np.ndarray:
        """Labels that are predicted."""
        return self.ranks[self.predicted]


class ReadOut:
    """What a model makes of probabilities, of images or of cases.

    Parameters
    ----------
    model : L2RCLIPClassifier
    coverage : float or None
        Of intervals, if there are to be any.
    """

    def __init__(self, model: L2RCLIPClassifier, coverage: float | None):
        self._model, self._coverage = model, coverage

    def __call__(self, probabilities: np.ndarray, usualness: np.ndarray | None = None) -> Predicted:
        """Read out rows of probabilities in rank order, ndarray of shape (n, K)."""
        model, values = self._model, self._model._state.scale.values
        return Predicted(
            model.ranks_,
            list(model.rank_names_.values()),
            probabilities,
            read_out(probabilities, values, model.decision),
            expected_value(probabilities, values),
            None if self._coverage is None else central_interval(probabilities, self._coverage),
            usualness,
        )

    def of_images(self, paths: list[Any]) -> Predicted:
        """Ask for everything at once, so that an image passes the tower once."""
        model = self._model
        scores = np.empty(len(paths)) if hasattr(model, "offset_") else None
        probabilities = softmax(model._logits(paths, scores), axis=1)
        return self(probabilities, None if scores is None else scores - model.offset_)


def add_coverage(parser: Any, default: float | None) -> None:
    """Add the probability that intervals are to hold."""
    text = "Probability that the interval of each image is to hold, such as 0.8"
    text += "; adds the columns lower and upper." if default is None else f"; by default {default}."
    parser.add_argument("--coverage", metavar="SHARE", type=float, default=default, help=text)


def checked_coverage(options: argparse.Namespace) -> float | None:
    """Check the coverage before any work."""
    if options.coverage is None:
        return None
    return check_real("coverage", options.coverage, 0, 1, open_ends=True)
