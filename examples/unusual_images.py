"""Images unlike those learned from
================================

Which images are unlike those that the model has learned from?

What one learns: `score_samples` says how usual an image is, and `offset_` is where the least usual hundredth of the
training images begins, as scikit-learn's detectors of outliers have it. A model of crops of one photograph looks at
other crops of it, dark and upside-down ones too, at crops of another photograph, at digits and at blank images. Nothing
is refused: `predict` answers whatever it is asked, and who uses the answers looks at both.

Run it with ``python unusual_images.py``; it takes less than a minute on two cores, needs no network, and draws
``unusual-images/unusual-images.png``. It needs matplotlib, as ``pip install ".[plot]"`` in a checkout installs it.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/unusual-images.png'

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skl2rclip import L2RCLIPClassifier
from skl2rclip.datasets import make_graded_photographs


def new_images(n: int) -> dict[str, np.ndarray]:
    """Images that the model has not seen, by what they are."""
    same = make_graded_photographs(n, photograph="temple", random_state=1).data
    return {
        "the same photograph": same,
        "upside down": [np.asarray(image)[::-1] for image in same],
        "dark": [(np.asarray(image) * 0.25).astype(np.uint8) for image in same],
        "another photograph": make_graded_photographs(n, photograph="flower", random_state=2).data,
        "handwritten digits": list((15.9 * load_digits().images[:n]).astype(np.uint8)),
        "blank": [np.full((64, 64), level, np.uint8) for level in range(0, 256, 4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("unusual-images"), help="where the figure goes")
    parser.add_argument("--n-train", type=int, default=400)
    parser.add_argument("--n-test", type=int, default=200)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    train = make_graded_photographs(options.n_train, photograph="temple", random_state=0)
    words = {"ranks": train.ranks, "rank_names": train.rank_names, "prompt": train.prompt}
    clf = L2RCLIPClassifier("skl2rclip-tiny", **words, random_state=0, device="cpu").fit(train.data, train.target)

    scores = {what: clf.score_samples(images) for what, images in new_images(options.n_test).items()}
    for what, each in scores.items():
        print(f"{what:25} {100 * (each < clf.offset_).mean():5.1f}% beyond 99% of the training images")
    figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
    ax.boxplot(
        list(scores.values()), tick_labels=list(scores), orientation="horizontal", whis=(1, 99), showfliers=False
    )
    ax.axvline(clf.offset_, color="black", linestyle="--", label="offset_")
    ax.invert_yaxis()
    ax.set_xlabel("score_samples: the further right, the more usual")
    ax.legend()
    figure.savefig(options.folder / "unusual-images.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
