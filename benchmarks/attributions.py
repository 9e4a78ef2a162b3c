"""Where a classifier looked, by several methods of Captum, where the place that decides the rank is known.

    python benchmarks/attributions.py --model-name skl2rclip-tiny

Crops of scikit-learn's two photographs with a disc somewhere, whose colour is the rank. Of each method: the share of
the map within the disc beside the disc's share of the image, how often the strongest place lies in it, how much of the
expected rank changes when the strongest tenth of the image is covered or the weakest tenth is, and the time of an
image.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, ShapleyValueSampling
from PIL import Image
from scipy.ndimage import uniform_filter
from sklearn.datasets import load_sample_images

from skl2rclip import L2RCLIPClassifier, input_pixels
from skl2rclip.inspection._attribution import ExpectedValue

Method = Callable[[ExpectedValue, torch.Tensor], torch.Tensor]
_BATCH = 32


def discs(n: int, side: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images, ranks from 0 to 4, and where the discs are."""
    rng, photographs = np.random.default_rng(seed), load_sample_images().images
    images, ranks, places = [], rng.integers(0, 5, n), np.zeros((n, side, side), bool)
    rows, columns = np.mgrid[:side, :side]
    for number, rank in enumerate(ranks):
        photograph = photographs[number % 2]
        top, left = (rng.integers(0, length - 160) for length in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + 160, left : left + 160]).resize((side, side))
        image, radius = np.array(crop), side / 7
        centre = rng.uniform(radius, side - radius, 2)
        places[number] = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
        colour = (60 + 45 * rank, 200 - 35 * rank, 40)
        image[places[number]] = 0.85 * np.array(colour) + 0.15 * image[places[number]]
        images.append(image)
    return images, ranks, places


def mean_colour(image: torch.Tensor) -> torch.Tensor:
    return image.mean(dim=(1, 2), keepdim=True).expand_as(image)


def occlusion(expected: ExpectedValue, image: torch.Tensor, *, window: float, step: float) -> torch.Tensor:
    side = round(window * image.shape[1])
    stride = max(1, round(step * side))
    with torch.no_grad():
        return Occlusion(expected).attribute(
            image,
            (side, side, 3),
            (stride, stride, 3),
            baselines=mean_colour(image),
            perturbations_per_eval=_BATCH,
        )[..., 0]


def integrated_gradients(expected: ExpectedValue, image: torch.Tensor, *, n_noisy: int = 0) -> torch.Tensor:
    method = IntegratedGradients(expected)
    how = {"baselines": mean_colour(image), "internal_batch_size": _BATCH}
    if not n_noisy:
        return method.attribute(image, n_steps=32, **how).sum(dim=-1)
    noisy = NoiseTunnel(method).attribute(
        image, nt_type="smoothgrad", nt_samples=n_noisy, nt_samples_batch_size=1, stdevs=20.0, n_steps=16, **how
    )
    return noisy.sum(dim=-1)


def shapley(expected: ExpectedValue, image: torch.Tensor) -> torch.Tensor:
    """Shapley values of seven times seven tiles, of ten orders drawn at random."""
    tile = torch.arange(image.shape[1]) * 7 // image.shape[1]
    mask = (7 * tile[:, None] + tile[None])[None, :, :, None]
    torch.manual_seed(0)
    with torch.no_grad():
        return ShapleyValueSampling(expected).attribute(
            image, baselines=mean_colour(image), feature_mask=mask, n_samples=10, perturbations_per_eval=_BATCH
        )[..., 0]


METHODS: dict[str, Method] = {
    "occlusion, window 1/4, step 1/8 (as it is)": partial(occlusion, window=1 / 4, step=1 / 2),
    "occlusion, window 1/4, step 1/16": partial(occlusion, window=1 / 4, step=1 / 4),
    "occlusion, window 1/8, step 1/16": partial(occlusion, window=1 / 8, step=1 / 2),
    "integrated gradients": integrated_gradients,
    "integrated gradients, noise tunnel of 8": partial(integrated_gradients, n_noisy=8),
    "Shapley values of 49 tiles": shapley,
    "random": lambda expected, image: torch.rand(image.shape[:3], generator=torch.Generator().manual_seed(0)),
}


def changes(expected: ExpectedValue, images: torch.Tensor, sizes: np.ndarray) -> tuple[float, float]:
    """How much the expected rank changes without the strongest tenth of each image, and without the weakest."""
    result, (n, side) = [], sizes.shape[:2]
    with torch.no_grad():
        before = expected(images)
        for sign in (-1, 1):
            order = (sign * sizes.reshape(n, -1)).argsort(axis=1)[:, : side * side // 10]
            covered = images.reshape(n, side * side, 3).clone()
            for number in range(n):
                covered[number, order[number]] = images[number].mean(dim=(0, 1))
            result.append(float((expected(covered.reshape(images.shape)) - before).abs().mean()))
    return result[0], result[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-name", default="skl2rclip-tiny")
    parser.add_argument("--side", type=int, default=96, help="of the images that are drawn")
    parser.add_argument("--n-train", type=int, default=200)
    parser.add_argument("--n-test", type=int, default=12)
    parser.add_argument("--n-methods", type=int, default=len(METHODS), help="the first so many methods")
    options = parser.parse_args()
    clf = L2RCLIPClassifier(options.model_name, ranks=range(5), prompt="a fruit of ripeness", random_state=0)
    clf.fit(*discs(options.n_train, options.side, 0)[:2])
    images, ranks, places = discs(options.n_test, options.side, 1)
    error = np.abs(clf.predict(images) - ranks).mean()
    print(f"{options.model_name}, {options.n_train} images to learn from, mean absolute error {error:.2f}")
    module = clf.to_torch()
    expected, pixels = ExpectedValue(module), torch.from_numpy(input_pixels(images, module)).float()
    side = pixels.shape[1]
    whole = torch.from_numpy(places[:, None]).float()
    inside = torch.nn.functional.interpolate(whole, (side, side))[:, 0].numpy() > 0.5
    print(f"the disc is {inside.mean():.2f} of the image\n")
    print("| method | share in the disc | strongest place in it | change without the strongest tenth | weakest | s |")
    print("|---|---|---|---|---|---|")
    for name, method in list(METHODS.items())[: options.n_methods]:
        start = time.perf_counter()
        maps = torch.cat([method(expected, image[None]) for image in pixels]).detach().abs().numpy()
        seconds = (time.perf_counter() - start) / len(pixels)
        share = np.mean([each[place].sum() / each.sum() for each, place in zip(maps, inside, strict=True)])
        smooth = np.stack([uniform_filter(each, side // 8) for each in maps])
        hits = np.mean([place.flat[each.argmax()] for each, place in zip(smooth, inside, strict=True)])
        strongest, weakest = changes(expected, pixels, smooth)
        print(f"| {name} | {share:.2f} | {hits:.2f} | {strongest:.2f} | {weakest:.2f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
