"""What the prompt does
====================

A good one, another wording, a meaningless and a wrongly ordered one, before and after fits.

What one learns: without images the prompt is everything. With words that CLIP knows for what is asked, it grades
images that it was never told about; with meaningless ones it does not, and with the right words in the wrong order
it is worse than chance. A fit keeps of the words what images that are left out confirm, the share in brackets: with few
images good words are most of the model, and others are none of it. The more images there are, the less the wording
matters.

Images are crops of scikit-learn's photographs, blurred in five steps; "blur level 0" to "20" is how skl2rclip-tiny
has learned to speak of blur. Each prototype is the embedding of a prompt with the name of one rank, and the tables
below show how similar they are to each other: in order, similarity falls away from the diagonal.

Run it with ``python what_the_prompt_does.py``; it takes less than a minute on two cores, needs no network, and draws
``prompts/prompts.png`` with matplotlib (``pip install "skl2rclip[plot]"``).
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/prompts.png'

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.inspection import PrototypeSimilarityDisplay
from skl2rclip.metrics import mean_absolute_rank_error

BLUR_RADIUS = [0.2, 0.7, 1.4, 2.4, 3.8]  # pixels
PROMPTS: dict[str, tuple[str, list[str]]] = {
    "good": ("a photo with blur level", ["0", "5", "10", "15", "20"]),
    "another wording": ("a picture that is {} blurred", ["not at all", "slightly", "fairly", "very", "extremely"]),
    "meaningless": ("zebra lamp soup", ["red", "cat", "seven", "tuesday", "spoon"]),
    "wrongly ordered": ("a photo with blur level", ["20", "5", "15", "0", "10"]),
}
SIDE = 64


def blurred_crops(photograph: np.ndarray, n: int, rng: np.random.Generator) -> tuple[list[Image.Image], np.ndarray]:
    """Cut crops of random place and size, and blur them; return them and the step of each, 0 to 4."""
    crops, steps = [], np.arange(n) % len(BLUR_RADIUS)
    for step in steps:
        side = int(rng.integers(2 * SIDE, 5 * SIDE))
        top, left = (int(rng.integers(length - side + 1)) for length in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + side, left : left + side]).resize((SIDE, SIDE))
        crops.append(crop.filter(ImageFilter.GaussianBlur(BLUR_RADIUS[step])))
    return crops, steps


def classifier(prompt: str, names: list[str], **parameters: Any) -> L2RCLIPClassifier:
    settings = {"ranks": range(5), "prompt": prompt, "rank_names": names, "image_tower": "precomputed", **parameters}
    return L2RCLIPClassifier("skl2rclip-tiny", **settings)


def draw_similarity(ax: Any, model: L2RCLIPClassifier, title: str) -> None:
    style = {"colorbar": False, "im_kw": {"vmin": -0.4, "vmax": 1}, "text_kw": {"fontsize": 8}}
    PrototypeSimilarityDisplay.from_estimator(model, ax=ax, **style)
    ax.set_title(title, fontsize="medium")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("prompts"), help="where the plot goes")
    parser.add_argument("--n-train", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--n-test", type=int, default=400)
    parser.add_argument("--n-fits", type=int, default=1, help="with different seeds")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    encoder = CLIPImageEncoder("skl2rclip-tiny").fit()
    parts = zip(load_sample_images().images, (max(options.n_train), options.n_test), strict=True)
    (train, y_train), (test, y_test) = (blurred_crops(photograph, n, rng) for photograph, n in parts)
    Z_train, Z_test = encoder.transform(train), encoder.transform(test)

    def error(model: L2RCLIPClassifier) -> float:
        return mean_absolute_rank_error(y_test, model.predict(Z_test), ranks=range(5))

    constant = mean_absolute_rank_error(y_test, np.full(len(y_test), 2))
    print(f"MAE in steps of blur on another photograph; always the middle one: {constant:.2f}\n")
    print(f"{'prompt':<17} {'zero-shot':>9}" + "".join(f"{f'{n} crops':>16}" for n in options.n_train))

    figure, axes = plt.subplots(2, len(PROMPTS), figsize=(11, 6.4), layout="compressed")
    for column, (kind, (prompt, names)) in zip(axes.T, PROMPTS.items(), strict=True):
        zero_shot = classifier(prompt, names).fit_zero_shot()
        cells = []
        for n in options.n_train:
            models = [classifier(prompt, names, random_state=seed) for seed in range(options.n_fits)]
            errors = [error(model.fit(Z_train[:n], y_train[:n])) for model in models]
            cells.append(f"{np.mean(errors):.2f} ({np.mean([model.zero_shot_share_ for model in models]):.0%})")
        print(f"{kind:<17} {error(zero_shot):>9.2f}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
        shown = f'"{prompt}"' if "{}" in prompt else f'"{prompt} {{}}"'
        draw_similarity(column[0], zero_shot, f"{kind}\n{shown}\nzero-shot, MAE {error(zero_shot):.2f}")
        draw_similarity(column[1], models[0], f"{n} crops, MAE {np.mean(errors):.2f}")
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "prompts.png"
    figure.savefig(file)
    print(f"\nWrote {file}")


if __name__ == "__main__":
    main()
