"""Several views of each training image, and predictions by image and mirror image, on two sets of photographs.

    python benchmarks/views.py --data FOLDER        # to benchmarks/views.md, which says what it shows

Images pass the towers once, views included, and fits are kept: another call goes on.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import joblib
import numpy as np
from evidence import CACHE, cache_for
from report import interval
from sklearn.base import clone
from tasks import Task, files_of, photograph_tasks

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.embedded import EMBEDDED_NAMES
from skl2rclip._ordinal.decisions import ranked_scores

SHOTS = (4, 16, 64)
WAYS = (1, "auto", 8)

ABOUT = """Made by `python benchmarks/views.py --data FOLDER --seeds {n} --shots {shots}`: MAE in ranks on the test
images, mean of {n} draws of the training images (all of a rank that has fewer), with nothing else set; images are the
files themselves. The fourth column says in how many of the draws `n_views="auto"` took views. Differences are draw by
draw, with the 95 % interval of their mean; the test images are the same for all draws, so that it says nothing about
others. Fits had every view in their cache: the last columns are their processor time beside that of `n_views=1`, each
the median over the draws."""


@dataclass(frozen=True)
class Fitted:
    """What a fit says of the test images."""

    mae: float
    rps: float
    mirrored_mae: float  # by the mean with the mirror image
    mirrored_rps: float
    n_views: int
    seconds: float  # of the processor


def fitted(
    backbone: str, name: str, shots: int, seed: int, n_views: int | str, task: Task, data: Path, folder: Path
) -> Fitted:
    """Fit on the files of a draw, once to embed them and once for the time that it takes then."""
    (paths, target), (test, truth) = files_of(name, data)
    drawn = task.draw(shots, seed)
    classifier = L2RCLIPClassifier(
        backbone,
        ranks=range(task.n_ranks),
        rank_names=list(task.names),
        prompt=task.prompt,
        n_views=n_views,
        embedding_cache=folder,
        device="cpu",
        random_state=seed,
    )
    clone(classifier).set_params(prompt_epochs=1).fit(paths[drawn], target[drawn])
    begun = time.process_time()
    classifier.fit(paths[drawn], target[drawn])
    seconds = time.process_time() - begun
    scores = []
    for mirror in (False, True):
        classifier.set_params(mirror=mirror)
        probabilities = classifier.predict_proba(test)
        scores += [np.abs(classifier.predict(test) - truth).mean(), ranked_scores(probabilities, truth).mean()]
    return Fitted(*map(float, scores), classifier.n_views_, seconds)


def line(task: Task, shots: int, fits: dict[int | str, list[Fitted]]) -> str:
    """Means by way, how they differ from those of one view, and what they cost."""
    values = {way: {name: np.array([asdict(fit)[name] for fit in own]) for name in asdict(own[0])}
              for way, own in fits.items()}  # fmt: skip
    one, automatic, eight = (values[way] for way in WAYS)
    cells = [
        task.backbone,
        task.name,
        str(shots),
        f"{(automatic['n_views'] > 1).sum()} of {len(automatic['n_views'])}",
        *(f"{way['mae'].mean():.3f}" for way in (one, automatic, eight)),
        interval(automatic["mae"] - one["mae"], 3),
        f"{(automatic['rps'].mean() / one['rps'].mean()):.3f}",
        *(f"{way['mirrored_mae'].mean():.3f}" for way in (one, automatic)),
        *(f"{np.median(way['seconds']) / np.median(one['seconds']):.2f}" for way in (automatic, eight)),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "backbone", "task", "images a rank", "views taken", "one view", "auto", "8 views", "auto less one",
    "RPS, auto by one", "one view, mirror", "auto, mirror", "time, auto", "time, 8 views",
)  # fmt: skip


def main() -> None:
    """Fit what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with lara2018 and BCCD_Dataset")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS)
    options = parser.parse_args()
    folder = options.cache / "views"
    kept = joblib.Memory(folder, verbose=0).cache(fitted, ignore=["task", "data", "folder"])
    lines, ratios = [], []
    for backbone in EMBEDDED_NAMES:
        for task in photograph_tasks(cache_for(options.cache, backbone), options.data, backbone):
            known = {"task": task.without_pixels(), "data": options.data, "folder": folder / "embeddings"}
            for shots in options.shots:
                fits = {
                    way: [kept(backbone, task.name, shots, seed, way, **known) for seed in range(options.seeds)]
                    for way in WAYS
                }
                lines.append(line(task, shots, fits))
                print(lines[-1], flush=True)
                means = {way: np.mean([fit.mae for fit in own]) for way, own in fits.items()}
                mirrored = np.mean([fit.mirrored_mae for fit in fits["auto"]])
                maes = np.array([[fit.mae for fit in fits[way]] for way in (1, 8)])
                errors = [means["auto"], mirrored, means[8], min(means[1], means[8]), maes.min(axis=0).mean()]
                ratios.append(np.log(np.array(errors) / means[1]))
    alone, mirrored, always, of_rows, of_draws = np.exp(np.mean(ratios, axis=0))
    summary = (
        f"Error of `auto` by that of one view, geometric mean of the {len(ratios)} rows: {alone:.3f}, "
        f"and with `mirror` {mirrored:.3f}; of eight views always {always:.3f}. Whoever knew the test images, and "
        f"took one view or eight by them, would have {of_rows:.3f} row by row and {of_draws:.3f} draw by draw."
    )
    head = f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}"
    text = "\n\n".join(
        [
            "# Views",
            ABOUT.format(n=options.seeds, shots=" ".join(map(str, options.shots))),
            "\n".join([head, *lines]),
            summary,
        ]
    )
    Path(__file__).with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
