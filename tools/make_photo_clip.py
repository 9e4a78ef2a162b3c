"""Train projection and text tower of skl2rclip-photo to a locked image network, and write weights and record.

    python tools/make_photo_clip.py --folder features                    # all of it, again from what the folder holds
    python tools/make_photo_clip.py --folder somewhere --chunks 1 --steps 20 --output elsewhere     # see that it runs

Images are rendered at 224 pixels (``rendering``, ``photo_scenes``) and pass the network once; its pooled features are
kept in a folder. The head learns from them as in locked-image tuning (Zhai et al., CVPR 2022), with the captions and
the graded contrastive loss of skl2rclip-tiny, from whose text tower the text tower starts. A second term has a linear
map of the embedding restore the features, so that the projection keeps what no caption asks for.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import joblib
import numpy as np
import open_clip
import timm
import torch
from captions import level_text, random_phrasing, test_prompts
from make_tiny_clip import CONFIG as TINY_CONFIG
from make_tiny_clip import WEIGHT_DECAY, commit, contrastive, embed_texts, tokenize, write
from open_clip.tokenizer import SimpleTokenizer
from photo_scenes import collage, other_photograph, varied_image
from rendering import NEW_PROPERTIES, PROPERTIES, random_image, render
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.photo import NETWORK, network_state
from skl2rclip._clip.source import BackboneSource

SIDE = 224
CHUNK = 250
# of the images of each kind
KINDS = {"graded": 0.5, "varied": 0.1, "collage": 1 / 15, "hard": 1 / 6, "other": 1 / 6}
# of hard ones: what the network's features show least, relative to 1
HARD = {"saturation": 6, "warmth": 2, "brightness": 2, "digit": 20}
# as the network was trained: (pixel - 127) / 128
PREPROCESSING = {"size": [SIDE, SIDE], "mean": [127 / 255] * 3, "std": [128 / 255] * 3}


def config_of(projection: str, width: int) -> dict:
    vision = {
        "image_size": SIDE,
        "timm_model_name": NETWORK,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": projection,
    }
    return {"embed_dim": width, "vision_cfg": vision, "text_cfg": TINY_CONFIG["text_cfg"]}


# ------------------------------------------------------------------- features


class Network:
    """The locked image network: images to pooled features, on one thread."""

    def __init__(self) -> None:
        model = timm.create_model(NETWORK, pretrained=False)
        model.load_state_dict(network_state())
        model.reset_classifier(0)
        self.model = model.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Features (n, 1280) of pixels (n, 224, 224, 3)."""
        torch.set_num_threads(1)
        parts = []
        for part in np.split(pixels, range(4, len(pixels), 4)):  # maps of so many fit the processor's caches
            batch = (torch.from_numpy(part).float() - 127) / 128
            parts.append(self.model(batch.permute(0, 3, 1, 2)).numpy())
        return np.concatenate(parts)


def rendered(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, int]]:
    if kind in ("graded", "hard"):
        return random_image(rng, HARD if kind == "hard" else None, side=SIDE)
    if kind == "collage":
        return collage(rng, SIDE), {}
    return varied_image(rng, SIDE) if kind == "varied" else other_photograph(rng, SIDE)


def make_chunk(file: Path, kind: str, number: int) -> None:
    """Render a chunk of training images and keep their features and levels."""
    rng = np.random.default_rng([list(KINDS).index(kind), number])
    network, features, levels = Network(), [], []
    for _ in range(0, CHUNK, 50):
        images, shown = zip(*(rendered(kind, rng) for _ in range(50)), strict=True)
        features.append(network(np.stack(images)))
        levels += shown
    keep(file, np.concatenate(features), levels=json.dumps(levels))


def make_test(file: Path, name: str, per_level: int, seed: int) -> None:
    """Features of images of one property, rendered apart from those of the training."""
    spec = {**PROPERTIES, **NEW_PROPERTIES}[name]
    rng, network = np.random.default_rng([seed, 78]), Network()
    y, features = np.tile(spec.levels, per_level), []
    for levels in np.split(y, range(50, len(y), 50)):
        pixels = [render(name, int(level), rng, training=False, side=SIDE) for level in levels]
        features.append(network(np.stack(pixels)))
    keep(file, np.concatenate(features), y=y)


def keep(file: Path, features: np.ndarray, **beside) -> None:
    unfinished = file.with_suffix(".part")
    with open(unfinished, "wb") as stream:
        np.savez(stream, features=features.astype(np.float32), **beside)
    unfinished.replace(file)


def make_features(folder: Path, n_chunks: int, per_level: int, n_jobs: int) -> None:
    """Make what the folder lacks: training images in chunks, then images to choose by."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for kind, share in KINDS.items():
        for number in range(max(1, round(share * n_chunks))):
            file = folder / f"{kind}-{number:03d}.npz"
            jobs.append((number / share, file, joblib.delayed(make_chunk)(file, kind, number)))
    for name in PROPERTIES:
        file = folder / f"test-{name}.npz"
        jobs.append((n_chunks, file, joblib.delayed(make_test)(file, name, per_level, 0)))
    for name in NEW_PROPERTIES:
        for part, number in (("train", 16), ("test", 8)):
            file = folder / f"new-{part}-{name}.npz"
            seed = 1 + (part == "test")
            jobs.append((n_chunks, file, joblib.delayed(make_test)(file, name, number, seed)))
    missing = [job for _, file, job in sorted(jobs, key=lambda job: (job[0], job[1])) if not file.is_file()]
    start = time.monotonic()
    done = joblib.Parallel(n_jobs, return_as="generator_unordered", batch_size=1)(missing)
    for count, _ in enumerate(done, start=1):
        print(f"features: {count} of {len(missing)} parts, {time.monotonic() - start:.0f} s", flush=True)


def training_features(folder: Path, n_chunks: int) -> tuple[np.ndarray, list[dict[str, int]], np.ndarray]:
    """Features of images with levels, those levels, and features of images without any."""
    features, levels, unlabelled = [], [], []
    for kind, share in KINDS.items():
        for number in range(max(1, round(share * n_chunks))):
            with np.load(folder / f"{kind}-{number:03d}.npz") as part:
                shown = [captioned(each) for each in json.loads(str(part["levels"]))]
                if shown[0]:
                    features.append(part["features"])
                    levels += shown
                else:
                    unlabelled.append(part["features"])
    return np.concatenate(features), levels, np.concatenate(unlabelled)


def captioned(levels: dict[str, int]) -> dict[str, int]:
    """Levels that a caption may name: what changes colours after it leaves little to see of the saturation."""
    alone = len(levels) == 1
    return {name: level for name, level in levels.items() if alone or name != "saturation"}


# ------------------------------------------------------------------- training


class Head(nn.Module):
    """The projection as open_clip has it, which takes standardised features while it learns."""

    def __init__(self, model: open_clip.CLIP, features: np.ndarray):
        super().__init__()
        self.layers = model.visual.head
        first, *others = (layer for layer in self.layers.modules() if isinstance(layer, nn.Linear))
        self.first = first
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        # without a bias no mean can be subtracted
        self.register_buffer("mean", torch.from_numpy(mean if others else 0 * mean))
        self.register_buffer("deviation", torch.from_numpy(deviation.clip(0.2 * np.median(deviation))))
        centred = torch.from_numpy(features - mean)
        self._start(centred, torch.from_numpy(mean), *others)
        self.register_buffer("principal", self._principal(centred))

    @torch.no_grad()
    def _start(self, centred: Tensor, mean: Tensor, second: nn.Linear | None = None) -> None:
        """Begin with the linear projection that keeps most of the features and of what the classes are told by."""
        covariance = centred.T @ centred
        classes = network_state()["classifier.weight"]
        classes = classes - classes.mean(dim=0)
        between = classes.T @ classes
        wanted = covariance / covariance.trace() + between / between.trace()
        width = self.first.out_features // (1 if second is None else 2)
        directions = torch.linalg.eigh(wanted).eigenvectors[:, -width:]  # (1280, D)
        directions = directions - mean[:, None] * (mean @ directions) / (mean @ mean)
        # halfway between features as they are and features whose directions all count the same
        directions = directions / (centred @ directions).std(dim=0).sqrt()
        directions = directions / (centred @ directions).std()
        weight = (directions * self.deviation[:, None]).T
        if second is None:
            self.first.weight.copy_(weight)
        else:  # GELU(x) - GELU(-x) = x
            self.first.weight.copy_(torch.cat([weight, -weight]))
            self.first.bias.zero_()
            second.weight.copy_(torch.cat([torch.eye(width), -torch.eye(width)], dim=1))

    def _principal(self, centred: Tensor) -> Tensor:
        """Principal components of standardised features, scaled so that small ones count for more than they vary."""
        spread, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        scaled = directions / spread.clamp(min=1e-6 * float(spread[-1])) ** 0.25
        scaled = scaled / (centred @ scaled).square().mean().sqrt()
        return self.deviation[:, None] * scaled

    def standardised(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation

    def forward(self, features: Tensor) -> Tensor:
        """Embed standardised features."""
        return self.layers(features)

    @torch.no_grad()
    def fold(self) -> None:
        """Put the standardisation into the first layer, after which the projection takes features as they are."""
        self.first.weight /= self.deviation
        if self.first.bias is not None:
            self.first.bias -= self.first.weight @ self.mean


def train(options: argparse.Namespace) -> tuple[open_clip.CLIP, dict, list[int]]:
    """Return the model, the record of its training, and the tokens that it has seen."""
    torch.manual_seed(options.seed)
    features, levels, unlabelled = training_features(options.folder, options.chunks)
    model = open_clip.CLIP(**config_of(options.projection, options.width))
    tiny = load_backbone(BackboneSource("skl2rclip-tiny")).model.state_dict()
    start_text = {
        key: tensor for key, tensor in tiny.items() if not key.startswith(("visual.", "text_projection", "logit_scale"))
    }
    model.load_state_dict(start_text, strict=False)
    head = Head(model, np.concatenate([features, unlabelled]))
    X, beside = (head.standardised(torch.from_numpy(each)) for each in (features, unlabelled))
    restore = nn.Linear(options.width, head.principal.shape[1])
    text = [parameter for name, parameter in model.named_parameters() if not name.startswith("visual.")]
    learned = [*text, *head.parameters(), *restore.parameters()]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    tokenizer = SimpleTokenizer(context_length=TINY_CONFIG["text_cfg"]["context_length"])
    rng, seen, losses, sums = np.random.default_rng([options.seed, 1]), set(), [], []
    start = time.monotonic()
    for step in range(options.steps):
        rows = rng.choice(len(X), options.batch_size, replace=False)
        others = rng.choice(len(beside), options.batch_size // 4)
        names = rng.choice(list(PROPERTIES), options.properties, replace=False)
        phrasings = [random_phrasing(str(name), rng) for name in names]
        ids = tokenize([each for phrasing in phrasings for each in phrasing.texts], tokenizer)
        seen.update(ids.unique().tolist())
        rate = options.learning_rate * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / options.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        clean = torch.cat([X[rows], beside[others]])
        noisy = F.dropout(clean, options.dropout) + options.noise * torch.randn_like(clean)
        embeddings = F.normalize(head(noisy), dim=-1)
        texts = F.normalize(embed_texts(model, ids), dim=-1)
        logits = model.logit_scale.exp() * embeddings[: len(rows)] @ texts.T
        graded = contrastive(logits, [levels[row] for row in rows], phrasings)
        restored = restore(math.sqrt(options.width) * embeddings)
        kept = F.mse_loss(restored, clean @ head.principal)
        loss = graded + options.keeping * kept
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        sums.append((float(graded.detach()), float(kept.detach())))
        if (step + 1) % options.report == 0:
            losses.append((step + 1, *(round(float(value), 4) for value in np.mean(sums, axis=0))))
            print(f"step {step + 1}: loss {losses[-1][1:]}, {time.monotonic() - start:.0f} s", flush=True)
            sums = []
    head.fold()
    settings = ("seed", "chunks", "steps", "batch_size", "properties", "learning_rate", "dropout", "noise", "keeping")
    record = {name: getattr(options, name) for name in settings} | {
        "images": len(features) + len(unlabelled),
        "weight_decay": WEIGHT_DECAY,
        "seconds_of_training": round(time.monotonic() - start),
        "device": f"{torch.get_num_threads()} CPU threads",
        "torch": torch.__version__,
        "commit": commit(),
        "losses": losses,
        "text_tower_started_from": "skl2rclip-tiny",
    }
    return model, record, sorted(seen)


# ------------------------------------------------------ what there is to choose by


@torch.no_grad()
def zero_shot(model: open_clip.CLIP, features: Tensor, name: str, prompts: list[str]) -> list[np.ndarray]:
    """Median of the levels' distribution, for each prompt."""
    levels = PROPERTIES[name].levels
    tokenizer = SimpleTokenizer(context_length=TINY_CONFIG["text_cfg"]["context_length"])
    Z = F.normalize(model.visual.head(features), dim=-1)
    result = []
    for prompt in prompts:
        texts = embed_texts(model, tokenize([f"{prompt} {level_text(name, level)}" for level in levels], tokenizer))
        probabilities = (model.logit_scale.exp() * Z @ F.normalize(texts, dim=-1).T).softmax(dim=1)
        result.append(np.array(levels)[(probabilities.cumsum(dim=1) >= 0.5).int().argmax(dim=1).numpy()])
    return result


def ratio(predicted: np.ndarray, y: np.ndarray) -> float:
    """MAE, as a share of the best constant's."""
    return float(np.abs(predicted - y).mean() / np.abs(y - np.median(y)).mean())


@torch.no_grad()
def embedded(model: open_clip.CLIP, features: np.ndarray) -> np.ndarray:
    return F.normalize(model.visual.head(torch.from_numpy(features)), dim=-1).numpy()


def ridge_error(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    from sklearn.linear_model import RidgeCV

    low, high = train[1].min(), train[1].max()
    scale = np.sqrt((train[0] - train[0].mean(axis=0)).var(axis=0).sum())
    model = RidgeCV(np.logspace(-5, 3, 25)).fit(train[0] / scale, train[1])
    return float(np.abs(model.predict(test[0] / scale).round().clip(low, high) - test[1]).mean())


def measure(model: open_clip.CLIP, folder: Path) -> dict[str, dict[str, float]]:
    """Zero-shot ratios on images to choose by; ridge on embeddings against ridge on features, untaught properties."""
    shares: dict[str, dict[str, float]] = {}
    for name, spec in PROPERTIES.items():
        with np.load(folder / f"test-{name}.npz") as part:
            features, y = torch.from_numpy(part["features"]), part["y"]
        seen, unseen = (zero_shot(model, features, name, prompts) for prompts in test_prompts(name))
        held_out = np.isin(y, spec.held_out)
        shares[name] = {
            "all levels": float(np.mean([ratio(p, y) for p in seen])),
            "held-out levels": float(np.mean([ratio(p[held_out], y[held_out]) for p in seen])) if held_out.any() else 0,
            "unseen phrasings": float(np.mean([ratio(p, y) for p in unseen])),
        }
        print(f"{name:12s}" + "".join(f"{value:7.2f}" for value in shares[name].values()), flush=True)
    for limit in (1 / 4, 1 / 3, 1 / 2):
        counts = [sum(of[column] <= limit for of in shares.values()) for column in next(iter(shares.values()))]
        print(f"within {limit:.2f} of the best constant's error: {counts} of {len(shares)}")
    for name in NEW_PROPERTIES:
        parts = {}
        for part in ("train", "test"):
            with np.load(folder / f"new-{part}-{name}.npz") as file:
                parts[part] = file["features"], file["y"]
        embeddings = {part: (embedded(model, X), y) for part, (X, y) in parts.items()}
        on_features, on_embeddings = (ridge_error(each["train"], each["test"]) for each in (parts, embeddings))
        print(f"ridge, {name}: {on_embeddings:.3f} on embeddings, {on_features:.3f} on features")
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    package = Path(__file__).parents[1] / "skl2rclip" / "_clip" / "skl2rclip-photo"
    parser.add_argument("--folder", type=Path, required=True, help="where features are kept")
    parser.add_argument("--output", type=Path, default=package)
    parser.add_argument("--chunks", type=int, default=90, help=f"of {CHUNK} images")
    parser.add_argument("--per-level", type=int, default=8, help="images of each level to choose by")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--features-only", action="store_true")
    parser.add_argument("--projection", choices=["linear", "mlp"], default="mlp")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=768)
    parser.add_argument("--properties", type=int, default=8, help="whose captions a step has")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.1, help="of features")
    parser.add_argument("--noise", type=float, default=0.1, help="on features, in their standard deviations")
    parser.add_argument("--keeping", type=float, default=12.0, help="weight of the second term")
    parser.add_argument("--report", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make_features(options.folder, options.chunks, options.per_level, options.jobs)
    if options.features_only:
        return
    model, record, seen = train(options)
    description = {"model_cfg": config_of(options.projection, options.width), "preprocess_cfg": PREPROCESSING}
    matrices = tuple(name for name, it in model.state_dict().items() if "visual.head" in name and it.ndim == 2)
    write(model.eval(), record, seen, options.output, description, matrices)
    print(f"{options.output}: {sum(file.stat().st_size for file in options.output.iterdir()) / 1e6:.1f} MB")
    measure(model, options.folder)


if __name__ == "__main__":
    main()
