"""What the prompt does: a good one, another wording, a meaningless and a wrongly ordered one, before and after a fit.

What one learns: without training the prompt is everything. With words that CLIP knows for what is asked, it grades
images that it was never told about; with meaningless ones it does not, and with the right words in the wrong order
it is worse than chance. A fit puts the prompts in order and maps the images to them, after which the wording matters
little. It also learns what is peculiar to its images: here these are crops of one photograph, and on those of
another the fitted models are behind the good prompt alone.

Images are crops of scikit-learn's photographs, blurred in five steps; "blur level 0" to "20" is how skl2rclip-tiny
has learned to speak of blur. Each prototype is the embedding of a prompt with the name of one rank, and the tables
below show how similar they are to each other: in order, similarity falls away from the diagonal.

Run it with ``python what_the_prompt_does.py``; it takes less than a minute on two cores, needs no network, and draws
``prompts/prompts.png`` with matplotlib (``pip install "skl2rclip[plot]"``).
"""

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
UNTRAINED = {"prompt_epochs": 0, "blend_ratio": 0.0, "image_adapter": None, "rank_targets": "hard"}


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
    settings = {"prompt": prompt, "rank_names": names, "image_tower": "precomputed", **parameters}
    return L2RCLIPClassifier("skl2rclip-tiny", **settings)


def draw_similarity(ax: Any, model: L2RCLIPClassifier, names: list[str], title: str) -> None:
    style = {"colorbar": False, "im_kw": {"vmin": -0.4, "vmax": 1}, "text_kw": {"fontsize": 8}}
    PrototypeSimilarityDisplay.from_estimator(model, display_labels=names, ax=ax, **style)
    ax.set_title(title, fontsize="medium")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("prompts"), help="where the plot goes")
    parser.add_argument("--n-train", type=int, default=100)
    parser.add_argument("--n-test", type=int, default=400)
    parser.add_argument("--n-fits", type=int, default=3, help="with different seeds")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    encoder = CLIPImageEncoder("skl2rclip-tiny").fit()
    parts = zip(load_sample_images().images, (options.n_train, options.n_test), strict=True)
    (train, y_train), (test, y_test) = (blurred_crops(photograph, n, rng) for photograph, n in parts)
    Z_train, Z_test = encoder.transform(train), encoder.transform(test)
    constant = mean_absolute_rank_error(y_test, np.full(len(y_test), 2))
    print(f"MAE in steps of blur on another photograph; always the middle one: {constant:.2f}\n")
    print(f"{'prompt':<17} {'untrained':>10}   fitted on {options.n_train} crops")

    figure, axes = plt.subplots(2, len(PROMPTS), figsize=(11, 6.4), layout="constrained")
    for column, (kind, (prompt, names)) in zip(axes.T, PROMPTS.items(), strict=True):
        models = [classifier(prompt, names, **UNTRAINED, random_state=0)]
        models += [classifier(prompt, names, random_state=seed) for seed in range(options.n_fits)]
        errors = [
            mean_absolute_rank_error(y_test, model.fit(Z_train, y_train).predict(Z_test), ranks=range(5))
            for model in models
        ]
        fitted = f"{np.mean(errors[1:]):.2f} ± {np.std(errors[1:]):.2f}"
        print(f"{kind:<17} {errors[0]:>10.2f}   {fitted}", flush=True)
        shown = f'"{prompt}"' if "{}" in prompt else f'"{prompt} {{}}"'
        draw_similarity(column[0], models[0], names, f"{kind}\n{shown}\nuntrained, MAE {errors[0]:.2f}")
        draw_similarity(column[1], models[1], names, f"fitted, MAE {fitted}")
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "prompts.png"
    figure.savefig(file)
    print(f"\nWrote {file}")


if __name__ == "__main__":
    main()
