"""Train skl2rclip-tiny, the small CLIP inside the package, and write its weights, its record and its measurements.

    python tools/make_tiny_clip.py --output round1
    python tools/make_tiny_clip.py --start-from round1 --share digit=3 fill=2    # more of what is hard; and so on
    python tools/make_tiny_clip.py --steps 20 --output somewhere                 # see that it runs

Everything that it learns from is rendered on the fly (``rendering``) or ships with scikit-image and scikit-learn. An
image meets all captioned levels of each property that it shows, in one random phrasing a step, and the captions of
scenes that it cannot be: a contrastive loss over images and captions as CLIP's, with more than one positive, softened
between neighbouring levels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
from captions import Phrasing, random_phrasing
from open_clip.tokenizer import SimpleTokenizer
from rendering import PROPERTIES, random_image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 96, "heads": 4, "layers": 3},
}
PREPROCESSING = {"size": [64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
SOFTNESS = 0.45  # how far, in levels, a caption's claim reaches to its neighbours
WEIGHT_DECAY = 0.05
PHOTOGRAPHIC = ("photograph", "old photograph")


def batch_of_images(size: int, seed: int, shares: dict[str, float]) -> tuple[np.ndarray, list[dict[str, int]]]:
    rng = np.random.default_rng(seed)
    pairs = [random_image(rng, shares) for _ in range(size)]
    return np.stack([pixels for pixels, _ in pairs]), [levels for _, levels in pairs]


def tokenize(texts: list[str], tokenizer: SimpleTokenizer) -> Tensor:
    """Token ids, cut after the longest text."""
    ids = tokenizer(texts)
    return ids[:, : int(ids.argmax(dim=1).max()) + 1]


def embed_texts(model: open_clip.CLIP, ids: Tensor) -> Tensor:
    """Embeddings of texts that need not fill the context."""
    length = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x[torch.arange(len(ids)), ids.argmax(dim=1)])
    return x @ model.text_projection


def embed_pixels(model: open_clip.CLIP, pixels: np.ndarray) -> Tensor:
    mean, std = (255 * torch.tensor(PREPROCESSING[key]) for key in ("mean", "std"))
    device = model.text_projection.device
    batch = (torch.from_numpy(pixels).to(device).float() - mean.to(device)) / std.to(device)
    return model.visual(batch.permute(0, 3, 1, 2).contiguous())


def targets_of(levels: list[dict[str, int]], phrasings: list[Phrasing]) -> list[tuple[Tensor, Tensor, Tensor, slice]]:
    """For each property: which images show it, what they claim of its captions, and which captions can be wrong.

    Returns
    -------
    list of tuple
        images, tensor of int; closeness (images, captions of the property), in [0, 1]; candidates (images, all
        captions), bool; the property's captions.
    """
    scene_of_caption = [PROPERTIES[p.name].scene for p in phrasings for _ in p.texts]
    name_of_caption = np.array([p.name for p in phrasings for _ in p.texts])
    result, start = [], 0
    for phrasing in phrasings:
        where = slice(start, start + len(phrasing.texts))
        start = where.stop
        images = [i for i, shown in enumerate(levels) if phrasing.name in shown]
        if not images:
            continue
        scene = PROPERTIES[phrasing.name].scene
        elsewhere = [
            other != scene and not (other in PHOTOGRAPHIC and scene in PHOTOGRAPHIC) for other in scene_of_caption
        ]
        candidates = torch.from_numpy(np.array(elsewhere) | (name_of_caption == phrasing.name))
        level = torch.tensor([float(levels[i][phrasing.name]) for i in images])
        distance = (level[:, None] - torch.tensor(phrasing.levels)).abs() / phrasing.width
        result.append((torch.tensor(images), torch.exp(-distance / SOFTNESS), candidates, where))
    return result


def contrastive(logits: Tensor, levels: list[dict[str, int]], phrasings: list[Phrasing]) -> Tensor:
    """Images to captions and captions to images, the mean of both; `logits` has the shape (images, captions)."""
    to_text, to_image = [], []
    for images, closeness, candidates, where in targets_of(levels, phrasings):
        closeness = closeness.to(logits.device)
        own = logits[images.to(logits.device)]  # (images, captions)
        log_share = own[:, where] - torch.logsumexp(own[:, candidates.to(logits.device)], dim=1, keepdim=True)
        to_text.append(-(closeness / closeness.sum(dim=1, keepdim=True) * log_share).sum(dim=1))
        near = closeness.max(dim=0).values > 0.5  # captions that some image is right for
        log_share = own[:, where] - torch.logsumexp(own[:, where], dim=0, keepdim=True)
        positives = closeness[:, near] / closeness[:, near].sum(dim=0)
        to_image.append(-(positives * log_share[:, near]).sum(dim=0))
    return (torch.cat(to_text).mean() + torch.cat(to_image).mean()) / 2


def train(options: argparse.Namespace) -> tuple[open_clip.CLIP, dict, list[int]]:
    """Return the model, the record of its training, and the tokens that it has seen."""
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = open_clip.CLIP(**CONFIG)
    previous = read(model, options.start_from) if options.start_from else None
    model = model.to(device)
    shares = {name: float(share) for name, share in (pair.split("=") for pair in options.share)}
    tokenizer = SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    rng = np.random.default_rng([options.seed, 1])
    seen: set[int] = set(previous["seen_tokens"]) if previous else set()
    losses: list[tuple[int, float]] = []
    sums: list[Tensor] = []
    start, version = time.monotonic(), commit()

    def record(steps: int) -> dict:
        return {
            "seed": options.seed,
            "steps": steps,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "schedule": {"steps": options.steps, "minutes": options.minutes, "warm_up": options.warm_up},
            "weight_decay": WEIGHT_DECAY,
            "shares": shares,
            "seconds": round(time.monotonic() - start),
            "device": torch.cuda.get_device_name()
            if device.type == "cuda"
            else f"{torch.get_num_threads()} CPU threads",
            "torch": torch.__version__,
            "commit": version,
            "losses": losses,
            "started_from": previous and previous["record"],
        }

    with ThreadPoolExecutor(1) as pool:
        seeds = itertools.count(options.seed * 10**6)
        following = pool.submit(batch_of_images, options.batch_size, next(seeds), shares)
        for step in range(options.steps):
            pixels, levels = following.result()
            following = pool.submit(batch_of_images, options.batch_size, next(seeds), shares)
            phrasings = [random_phrasing(name, rng) for name in PROPERTIES]
            ids = tokenize([text for phrasing in phrasings for text in phrasing.texts], tokenizer)
            seen.update(ids.unique().tolist())
            done = max(step / options.steps, (time.monotonic() - start) / (60 * options.minutes))
            rate = options.learning_rate * min(1, (step + 1) / options.warm_up) * (1 + math.cos(math.pi * done)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16):
                images, texts = embed_pixels(model, pixels), embed_texts(model, ids.to(device))
            similarities = F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
            loss = contrastive(model.logit_scale.exp() * similarities, levels, phrasings)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            sums.append(loss.detach())
            if (step + 1) % options.report == 0:
                losses.append((step + 1, round(float(torch.stack(sums).mean()), 4)))
                print(f"step {step + 1}: loss {losses[-1][1]:.4f}, {time.monotonic() - start:.0f} s", flush=True)
                sums = []
            if (step + 1) % 500 == 0:
                write(model, record(step + 1), sorted(seen), options.output.with_name(f"{options.output.name}-partial"))
            if time.monotonic() - start > 60 * options.minutes:
                break
    return model.cpu(), record(step + 1), sorted(seen)


def read(model: open_clip.CLIP, folder: Path) -> dict:
    """Go on from what `write` wrote."""
    weights = {name: tensor.float() for name, tensor in load_file(folder / "weights.safetensors").items()}
    rows = weights.pop("seen_tokens").long()
    table = model.token_embedding.weight.detach().clone()
    table[rows] = weights["token_embedding.weight"]
    model.load_state_dict({**weights, "token_embedding.weight": table}, strict=False)
    return {"seen_tokens": rows.tolist(), "record": json.loads((folder / "training.json").read_text())}


def commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def write(
    model: open_clip.CLIP,
    record: dict,
    seen: list[int],
    folder: Path,
    description: dict | None = None,
    in_eight_bits: tuple[str, ...] = (),
) -> None:
    """Write the weights in half precision; of the token embeddings only the rows that training has seen.

    Matrices named `in_eight_bits` are written as whole numbers, with a factor for each row. An image network that comes
    from elsewhere is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left_out = ("attn_mask", "visual.trunk.")
    weights = {name: it.detach().cpu() for name, it in model.state_dict().items() if not name.startswith(left_out)}
    rows = torch.tensor(seen)
    weights["token_embedding.weight"] = weights["token_embedding.weight"][rows]
    factors = {name: weights[name].abs().amax(dim=1, keepdim=True) / 127 for name in in_eight_bits}
    whole = {name: (weights[name] / factor).round().to(torch.int8) for name, factor in factors.items()}
    weights = {name: tensor.half().contiguous() for name, tensor in weights.items()} | whole
    weights |= {f"{name}.factor": factor for name, factor in factors.items()}
    save_file({**weights, "seen_tokens": rows.int()}, folder / "weights.safetensors")
    description = description or {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(description, indent=2) + "\n")
    (folder / "training.json").write_text(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "skl2rclip" / "_clip" / "skl2rclip-tiny"
    )
    parser.add_argument("--start-from", type=Path, help="folder of an earlier round")
    parser.add_argument("--share", nargs="*", default=[], help="property=share, relative to 1, of the images")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument(
        "--minutes", type=float, default=120, help="the schedule ends here if steps do not end it before"
    )
    parser.add_argument("--batch-size", type=int, default=192)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=150)
    parser.add_argument("--report", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, record, seen = train(options)
    write(model, record, seen, options.output)
    print(f"{options.output}: {sum(file.stat().st_size for file in options.output.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
