"""What the library costs beside what it has to do at least: pairs in one run, as ratios.

    python benchmarks/speed.py                          # every row, to benchmarks/speed.md; on the CPU about 25 minutes
    python benchmarks/speed.py --only text_step         # some rows, added to those that are there
    python benchmarks/speed.py --device cuda            # on a GPU, to a table of its own in the same file

Weights are random: what is computed costs the same. Each pair alternates, and the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import open_clip
import pandas as pd
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import Backbone, load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.text_tower import text_tower_of
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.embedder import decode_and_embed
from skl2rclip._embedding.encoding import ImageEncoding, shared_encoding
from skl2rclip._embedding.pixel_store import PixelStore
from skl2rclip._images.preprocessing import normalize
from skl2rclip._model import state
from skl2rclip._model.modules import ImageAdapter, RankFormer
from skl2rclip._model.prompts import PromptTokens, RankPrompts, tokenize_prompts
from skl2rclip._settings import Settings
from skl2rclip._training import prepare
from skl2rclip._training.learner import EncodedImages, Learner, TrainingData
from skl2rclip._training.objective import Objective
from skl2rclip._training.stages import PromptStage, TowerStage, optimizer_for, run_stage
from skl2rclip._utils.devices import autocast_for

HERE = Path(__file__).parent
MODEL = "ViT-B-32"
PROMPT = "a photo of a person aged"


def backbone_of(name: str = MODEL) -> Backbone:
    return load_backbone(BackboneSource(name, None, 0))


# what the rows were first measured with, so that they can be compared: the paper's objective
MEASURED = {
    "image_tower": "finetune",
    "image_adapter": "linear",
    "rank_targets": "hard",
    "pairwise_weight": 1.0,
    "tightness_weight": 1.0,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "decision": "argmax",
}


def settings_of(**parameters: Any) -> Settings:
    """Settings with what `MEASURED` holds where nothing else is said."""
    return Settings.of({**L2RCLIPClassifier().get_params(), **MEASURED, **parameters})


def classifier_of(model_name: str, pretrained: str | None = None, **parameters: Any) -> L2RCLIPClassifier:
    return L2RCLIPClassifier(model_name, pretrained, **{**MEASURED, **parameters})


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def alternate(pair: dict[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median time of each, after a warm-up, measured in turns."""
    for function in pair.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in pair}
    for _ in range(repeats):
        for name, function in pair.items():
            times[name].append(seconds(function, device))
    return {name: statistics.median(values) for name, values in times.items()}


def photographs(folder: Path, n: int, size: tuple[int, int] = (640, 480), quality: int = 90) -> list[str]:
    """JPEG files of windows of scikit-learn's two photographs."""
    rng = np.random.default_rng(0)
    originals = [Image.fromarray(image) for image in load_sample_images().images]
    paths = []
    for i in range(n):
        original = originals[i % 2]
        left, top = int(rng.integers(0, original.width - 320)), int(rng.integers(0, original.height - 240))
        path = folder / f"{i:05d}.jpg"
        original.crop((left, top, left + 320, top + 240)).resize(size).save(path, quality=quality)
        paths.append(str(path))
    return paths


def make_prompts(
    backbone: Backbone, device: torch.device, n_ranks: int, m: int = 8, rankformer: RankFormer | None = None
) -> RankPrompts:
    generator = torch.Generator().manual_seed(0)
    tokens = make_tokens(backbone, n_ranks, m)
    return RankPrompts(tokens, backbone.text_tower(device), rankformer, generator=generator).to(device)


def make_tokens(backbone: Backbone, n_ranks: int, m: int = 8) -> PromptTokens:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a long prompt is cut to m tokens
        return tokenize_prompts(backbone.tokenizer(), PROMPT, [str(k) for k in range(n_ranks)], m, "tail")


def full_prompts(backbone: Backbone, prompts: RankPrompts, n_ranks: int, device: torch.device) -> Callable[[], Tensor]:
    """Run the same prompts as research code does: K sequences of 77 tokens."""
    model, tokens = backbone.on(device), make_tokens(backbone, n_ranks)
    first = len(tokens.start) + tokens.n_context
    end = first + sum(map(len, tokens.ranks))
    rows, ends, place = [], [], first
    for rank in tokens.ranks:
        own = [*range(first), *range(place, place + len(rank)), end]
        rows.append(own + [end] * (model.context_length - len(own)))  # no one sees what follows the end
        ends.append(len(own) - 1)
        place += len(rank)
    index, ends = torch.tensor(rows, device=device), torch.tensor(ends, device=device)
    each = torch.arange(n_ranks, device=device)

    def run() -> Tensor:
        table = torch.cat([prompts._start, prompts.context, prompts.rank_tokens, prompts._end])
        x = F.embedding(index, table) + model.positional_embedding
        pooled = model.ln_final(model.transformer(x, attn_mask=model.attn_mask)[each, ends])
        return F.normalize(pooled @ model.text_projection, dim=-1)

    return run


def text_step(device: torch.device) -> list[dict]:
    """Forward and backward of the prompts of 100 ranks."""
    backbone = backbone_of()
    prompts = make_prompts(backbone, device, 100)
    full = full_prompts(backbone, prompts, 100, device)
    weights = torch.randn(100, backbone.embedding_width, generator=torch.Generator().manual_seed(1)).to(device)

    def step(run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        prompts.zero_grad()
        output = run()
        (output * weights).sum().backward()
        return output.detach(), prompts.context.grad.clone()

    (ours, our_gradient), (theirs, their_gradient) = step(prompts), step(full)
    times = alternate({"ours": lambda: step(prompts), "other": lambda: step(full)}, device, 3)
    difference = float((ours - theirs).abs().max())
    gradient = float((our_gradient - their_gradient).abs().max() / their_gradient.abs().max())
    return [
        row(
            "text step, K = 100, forward and backward",
            "K prompts of 77 tokens",
            times,
            "12 times or more",
            f"largest difference {difference:.0e}, of the gradients {gradient:.0e} of the largest",
        )
    ]


# settings of open_clip's towers by family, and the length of their texts; all of one size here
FAMILIES = {
    "MobileCLIP's (77 tokens, not causal)": {"context_length": 77, "no_causal_mask": True},
    "SigLIP's (64 tokens, not causal)": {"context_length": 64, "no_causal_mask": True, "pool_type": "last"},
    "CLIPA's (32 tokens, not causal)": {"context_length": 32, "no_causal_mask": True, "pool_type": "last"},
    "CoCa's (class token behind 76 tokens)": {"context_length": 76, "embed_cls": True},
}


def text_families(device: torch.device) -> list[dict]:
    """Forward and backward of the prompts of 20 ranks through towers that are run in full, beside a packed one."""
    size = {"vocab_size": 1000, "width": 512, "heads": 8, "layers": 12}
    towers = {name: TextTransformer(**size, **settings) for name, settings in FAMILIES.items()}
    if importlib.util.find_spec("transformers") is not None:
        from transformers import XLMRobertaConfig

        config = XLMRobertaConfig(
            vocab_size=1000, hidden_size=512, num_hidden_layers=12, num_attention_heads=8, intermediate_size=2048
        )
        towers["XLM-RoBERTa's (Hugging Face)"] = HFTextEncoder(
            "", 512, config=config, pooler_type="mean_pooler", proj_type="linear"
        )
    packed = family_step(TextTransformer(**size), device)
    rows = []
    for name, tower in towers.items():
        times = alternate({"ours": family_step(tower, device), "other": packed}, device, 5)
        what = f"text step, K = 20, a tower like {name}"
        rows.append(row(what, "a causal tower of the same size, packed", times, "reported", inverse=True))
    return rows


def family_step(text: torch.nn.Module, device: torch.device, n_ranks: int = 20, m: int = 8) -> Callable[[], None]:
    """A step of prompts with m shared tokens and one for each rank."""
    model = torch.nn.Module()
    model.text = text.eval().requires_grad_(False).to(device)
    tower = text_tower_of(model, "")
    start, end, pad = 0, 1 + m + n_ranks, 2 + m + n_ranks
    ids = [500, *range(100, 100 + m), *range(200, 200 + n_ranks), 999, getattr(tower, "_pad_id", 0)]
    arranged = tower.arrange([start, *range(1, 1 + m)], [[1 + m + k, end] for k in range(n_ranks)], ids, [pad])
    table = tower.token_embedding(torch.tensor(ids, device=device)).detach().requires_grad_()

    def step() -> None:
        table.grad = None
        tower.encode(table, arranged).square().sum().backward()

    return step


def stage1_epoch(device: torch.device) -> list[dict]:
    """A whole epoch of the first stage with a single batch, beside the packed text tower alone."""
    backbone = backbone_of()
    rows = []
    for n_ranks in (20, 100):
        learner = make_learner(backbone, device, n_ranks)
        n = 256
        generator = torch.Generator().manual_seed(0)
        Z = F.normalize(torch.randn(n, backbone.embedding_width, generator=generator), dim=1).to(device)
        data = TrainingData(torch.randint(n_ranks, (n,), generator=generator).to(device), None, EncodedImages(Z, Z))
        stage = PromptStage(learner, settings_of())
        optimizer = optimizer_for(stage)
        bare = make_prompts(backbone, device, n_ranks)

        def alone(bare: RankPrompts = bare) -> None:
            bare.zero_grad()
            bare().sum().backward()

        epoch = functools.partial(run_stage, stage, data, n_epochs=1, batch_size=n, decay=False, optimizer=optimizer)
        times = alternate({"ours": epoch, "other": alone}, device, 9)
        rows.append(
            row(
                f"epoch of stage 1, one batch of {n}, K = {n_ranks}",
                "packed text tower alone, forward and backward",
                times,
                "at most 1.25 times",
                inverse=True,
            )
        )
    return rows


def make_learner(backbone: Backbone, device: torch.device, n_ranks: int, finetune: bool = False) -> Learner:
    prompts = make_prompts(backbone, device, n_ranks, rankformer=RankFormer(512, 1, 0.1))
    values = torch.arange(n_ranks, dtype=torch.float32, device=device)
    return Learner(
        prompts=prompts,
        adapter=None if finetune else ImageAdapter(backbone.embedding_width, "linear").to(device),
        tower=backbone.image_tower_copy(device) if finetune else None,
        preprocessing=backbone.preprocessing,
        objective=Objective({"contrastive": 1.0, "ordering": 1.0, "tightness": 1.0}, backbone.logit_scale, values),
        autocast=autocast_for("auto", device),
        image_autocast=autocast_for("auto", device),
        generator=torch.Generator().manual_seed(0),
    )


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """Switch the store of embeddings off, in memory too."""
    with (
        mock.patch.object(state, "cache_of", return_value=None),
        mock.patch.object(prepare, "cache_of", return_value=None),
    ):
        yield


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Numbers of images that pass a tower."""
    passed: list[int] = []
    original = ImageEncoding._of_pixels

    def count(self: ImageEncoding, pixels: np.ndarray, batch_size: int) -> np.ndarray:
        passed.append(len(pixels))
        return original(self, pixels, batch_size)

    with mock.patch.object(ImageEncoding, "_of_pixels", count):
        yield passed


def search(device: torch.device) -> list[dict]:
    """GridSearchCV of 12 candidates by 5 folds over a frozen tower."""
    n = 100 if device.type == "cpu" else 1000
    model = classifier_of(
        MODEL, None, image_tower="frozen", prompt_epochs=3, random_state=0, device=str(device), n_context_tokens=5
    )
    grid = {"n_context_tokens": [5, 6, 8], "pairwise_weight": [0.1, 0.3, 1.0, 3.0]}
    y = np.arange(n) % 5
    times, counts = {}, {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = photographs(Path(folder), n, (320, 240))
        backbone_of()
        for name in ("ours", "other"):
            forget_embeddings()
            with counted() as passed, contextlib.nullcontext() if name == "ours" else nothing_kept():
                fit = GridSearchCV(model, grid, cv=5, refit=False)
                times[name] = seconds(functools.partial(fit.fit, paths, y), device)
            counts[name] = sum(passed)
    note = f"{n} images; {counts['ours']} passed the tower, without the store {counts['other']}"
    return [row("search, 12 candidates by 5 folds, frozen", "nothing kept", times, "8 times or more", note)]


def search_in_processes(device: torch.device) -> list[dict]:
    """A search of short fits in two processes that are there already, everything cached, beside one process."""
    grid = {"pairwise_weight": [0.1, 0.3]}
    y = np.arange(100) % 5
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), len(y), (320, 240))
        model = L2RCLIPClassifier(
            "skl2rclip-tiny", embedding_cache=f"{folder}/cache", random_state=0, device=str(device)
        )

        def run(n_jobs: int) -> None:
            GridSearchCV(model, grid, cv=4, n_jobs=n_jobs, refit=False, error_score="raise").fit(paths, y)

        def on_one_thread() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                with threadpool_limits(1, user_api="blas"):
                    run(1)
            finally:
                torch.set_num_threads(before)

        pair = {"ours": lambda: run(2), "one thread": on_one_thread, "as it comes": lambda: run(1)}
        times = alternate(pair, device, 2)
    what, note = "search of 8 short fits, n_jobs=2", "100 images of skl2rclip-tiny, workers started, cached"
    wanted = {"one thread": "1.6 times or more", "as it comes": "1 or more"}
    return [
        row(what, f"n_jobs=1, {other}", {"ours": times["ours"], "other": times[other]}, wanted[other], note)
        for other in wanted
    ]


BUSY_PROCESSES, BUSY_SECONDS = 4, 300


@contextlib.contextmanager
def other_work() -> Iterator[None]:
    """Keep the processors busy with processes that compute, and end by themselves if nobody ends them."""
    code = f"import time\nend = time.monotonic() + {BUSY_SECONDS}\nwhile time.monotonic() < end: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(BUSY_PROCESSES)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def beside_other_work(device: torch.device) -> list[dict]:
    """The same alone, and beside four processes that compute, on however many cores there are."""
    y = np.arange(60) % 5
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), 256, (320, 240))
        model = L2RCLIPClassifier("skl2rclip-tiny", random_state=0, device=str(device)).fit(paths[:60], y)
        encoder = CLIPImageEncoder("skl2rclip-tiny", device=str(device))

        def anew(function: Callable[[], Any]) -> Callable[[], None]:
            def call() -> None:
                forget_embeddings()
                function()

            return call

        work = {
            "a fit of 60 images, nothing set": anew(lambda: model.fit(paths[:60], y)),
            "predict_proba of 60 files": anew(lambda: model.predict_proba(paths[:60])),
            "embedding 256 files": anew(lambda: encoder.fit_transform(paths)),
        }
        for what, function in work.items():
            alone = alternate({"it": function}, device, 3)["it"]
            with other_work():
                beside = alternate({"it": function}, device, 3)["it"]
            against = f"the same alone, {joblib.cpu_count()} cores"
            times = {"ours": beside, "other": alone}
            name = f"{what}, beside {BUSY_PROCESSES} busy processes"
            rows.append(row(name, against, times, "at most 5 times", "skl2rclip-tiny", inverse=True))
    return rows


def predict(device: torch.device) -> list[dict]:
    """predict_proba on JPEG files, beside what bounds it."""
    n = 192 if device.type == "cpu" else 4096
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = photographs(Path(folder), n)
        backbone = backbone_of()
        fitted = classifier_of(
            MODEL, None, image_tower="frozen", prompt_epochs=0, random_state=0, device=str(device)
        ).fit(paths[:5], range(5))
        encoding = shared_encoding(backbone, device, "auto", 64)

        def chunks() -> Iterator[np.ndarray]:
            for _, [pixels], _ in decode_and_embed(paths, [backbone.preprocessing], None, None, None):
                yield pixels

        def decode() -> None:
            for _ in chunks():
                pass

        def ours() -> None:
            forget_embeddings()
            fitted.predict_proba(paths)

        pixels = np.concatenate(list(chunks()))
        parts = {"ours": ours, "decoding": decode, "tower": lambda: encoding.of_pixels(pixels)}
        times = alternate(parts, device, 3)
    # on the CPU both use all cores, so that their sum is the bound
    bound = times["decoding"] + times["tower"] if device.type == "cpu" else max(times["decoding"], times["tower"])
    note = f"{n} files of 640 x 480; decoding {n / times['decoding']:.0f}, tower {n / times['tower']:.0f}, "
    note += f"predict_proba {n / times['ours']:.0f} images a second"
    other = "decoding and tower" if device.type == "cpu" else "the slower of decoding and tower"
    return [row("predict_proba on JPEG files", other, {"ours": times["ours"], "other": bound}, "0.9 or more", note)]


def small_models(device: torch.device) -> list[dict]:
    """Photographs to embeddings by our own small models, decoding included."""
    n, rows = 256, []
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), n)
        for name, bound in (("skl2rclip-tiny", 10), ("skl2rclip-photo", 60)):
            encoder = CLIPImageEncoder(name, device=str(device)).fit()

            def ours(encoder: CLIPImageEncoder = encoder) -> None:
                forget_embeddings()
                encoder.transform(paths)

            times = {"ours": alternate({"it": ours}, device, 3)["it"], "other": bound * n / 1000}
            note = f"{n} files of 640 x 480; {n / times['ours']:.0f} images a second"
            against = f"{bound} s for 1,000 files"
            rows.append(row(f"embedding JPEG files with {name}", against, times, "1 or more", note))
    return rows


def reading_the_tower(device: torch.device) -> list[dict]:
    """What the tower holds before its embedding, of ViT-B/16: the pass that reads it, and fits on it, all cached."""
    backbone, rows = backbone_of("ViT-B-16"), []
    pixels = np.random.default_rng(0).integers(0, 255, (32, *backbone.preprocessing.size, 3), np.uint8)
    plain, reads = (shared_encoding(backbone, device, "auto", 32, blocks=it) for it in (None, backbone.feature_blocks))
    times = alternate({"ours": lambda: reads.of_pixels(pixels), "other": lambda: plain.of_pixels(pixels)}, device, 7)
    rows.append(
        row("tower with what it holds", "bare tower", times, "0.97 or more", f"{len(pixels)} images of ViT-B/16")
    )
    for n_ranks in (5, 21):
        target = np.tile(np.arange(n_ranks), 16)
        table = table_of(backbone, target)
        width = backbone.embedding_width
        sizes = {}

        def fit(name: str, X: Any, target: np.ndarray = target, sizes: dict[str, int] = sizes) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                classifier = L2RCLIPClassifier(
                    "ViT-B-16", None, image_tower="precomputed", random_state=0, device=str(device)
                ).fit(X, target)
            assert classifier.image_features_ == name
            sizes[name] = len(pickle.dumps(classifier))

        of_embedding = table.iloc[:, :width]
        pair = {"ours": partial(fit, "both", table), "other": partial(fit, "embedding", of_embedding)}
        times = alternate(pair, device, 3)
        note = f"saved {sizes['both'] / 1e6:.1f} MB against {sizes['embedding'] / 1e6:.1f} MB"
        what = f"a fit on all that ViT-B/16 gives, 16 images a rank, K = {n_ranks}"
        rows.append(row(what, "on its embedding alone", times, "at most 2 times", note, inverse=True))
    return rows


def table_of(backbone: Backbone, target: np.ndarray) -> pd.DataFrame:
    """Features, drawn at random, whose pooled state shows the rank."""
    blocks = backbone.feature_blocks
    rows = np.random.default_rng(0).normal(size=(len(target), blocks.width)).astype(np.float32)
    table = pd.DataFrame(rows, columns=blocks.names)
    table["pooled__0"] += 100 * target / target.max()
    return table


def stage2_step(device: torch.device) -> list[dict]:
    """A step of the second stage beside forward and backward of the bare tower."""
    backbone = backbone_of()
    batch = 32 if device.type == "cpu" else 64
    learner = make_learner(backbone, device, 20, finetune=True)
    n = 2 * batch
    enlarged = backbone.preprocessing.enlarged(8, 7)
    store = PixelStore((n, *enlarged.size, 3), device, None)
    store.write(np.arange(n), np.random.default_rng(0).integers(0, 256, (n, *enlarged.size, 3), dtype=np.uint8))
    data = TrainingData((torch.arange(n) % 20).to(device), None, None, store)
    stage = TowerStage(learner, settings_of())
    optimizer = optimizer_for(stage)
    bare = backbone.image_tower_copy(device)
    images = torch.randn(batch, 3, *backbone.preprocessing.size, device=device)

    def alone() -> None:
        for _ in range(n // batch):
            bare.zero_grad(set_to_none=True)
            with autocast_for("auto", device):
                output = bare(images)
            output.float().sum().backward()

    def ours() -> None:
        run_stage(stage, data, n_epochs=1, batch_size=batch, decay=False, optimizer=optimizer)

    times = alternate({"ours": ours, "other": alone}, device, 3 if device.type == "cpu" else 20)
    note = f"{n / times['ours']:.0f} images a second, K = 20, with augmentation, text tower and AdamW"
    return [row(f"step of stage 2, batch of {batch}", "bare tower, forward and backward", times, "0.85 or more", note)]


def recipe(device: torch.device) -> list[dict]:
    """A fit as research code does it, beside ours, at equal epochs."""
    n, epochs, n_ranks, batch = (64, 2, 20, 32) if device.type == "cpu" else (2048, 3, 60, 64)
    backbone = backbone_of()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = photographs(Path(folder), n)
        y = np.arange(n) % n_ranks
        model = classifier_of(
            MODEL, None, prompt_epochs=0, image_epochs=epochs, batch_size=batch, random_state=0, device=str(device)
        )

        def theirs() -> None:
            fit_with_loader(backbone, paths, y, n_ranks, epochs, batch, device)

        times = alternate({"ours": lambda: model.fit(paths, y), "other": theirs}, device, 1)
    note = f"{n} JPEG files, K = {n_ranks}, {epochs} epochs, image tower and prompts"
    return [row("a fit, image tower and prompts", "77-token prompts, DataLoader, float32", times, "reported", note)]


class Photographs(torch.utils.data.Dataset):
    """Decoded anew in every epoch, as research code does."""

    def __init__(self, paths: list[str], y: np.ndarray, backbone: Backbone):
        self.paths, self.y, self.backbone = paths, y, backbone
        self.resize = backbone.preprocessing.enlarged(8, 7).resizer()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = np.asarray(self.resize(Image.open(self.paths[i]).convert("RGB")))
        side = self.backbone.preprocessing.size[0]
        top, left = (int(v) for v in torch.randint(image.shape[0] - side, (2,)))
        image = image[top : top + side, left : left + side]
        image = image[:, ::-1] if torch.rand(()) < 0.5 else image
        return normalize(torch.from_numpy(image.copy())[None], self.backbone.preprocessing)[0], int(self.y[i])


def fit_with_loader(
    backbone: Backbone, paths: list[str], y: np.ndarray, n_ranks: int, epochs: int, batch: int, device: torch.device
) -> None:
    """Learned context and tower, cross-entropy, every prompt in full: OrdinalCLIP's recipe (Li et al., 2022)."""
    prompts = make_prompts(backbone, device, n_ranks)
    run = full_prompts(backbone, prompts, n_ranks, device)
    tower = backbone.image_tower_copy(device)
    optimizer = torch.optim.AdamW([*prompts.parameters(), *tower.parameters()], lr=5e-6)
    workers = joblib.cpu_count() if device.type == "cuda" else 0
    loader = torch.utils.data.DataLoader(Photographs(paths, y, backbone), batch, shuffle=True, num_workers=workers)
    for _ in range(epochs):
        for images, target in loader:
            logits = backbone.logit_scale * F.normalize(tower(images.to(device)), dim=-1) @ run().T
            optimizer.zero_grad()
            F.cross_entropy(logits, target.to(device)).backward()
            optimizer.step()


MEMORY = """
import re, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
def peak():  # of Linux; getrusage also counts what the process had been before it became this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
paths, n = sys.argv[1:-1], int(sys.argv[-1])
settings = dict(image_tower="finetune", rank_targets="hard", prompt_epochs=0, image_epochs=1, batch_size=16)
settings |= dict(random_state=0, device="cpu", n_context_tokens=4)
backbone = load_backbone(BackboneSource("skl2rclip-tiny"))
L2RCLIPClassifier("skl2rclip-tiny", **settings).fit(paths[:20], np.arange(20) % 5)
before = peak()
L2RCLIPClassifier("skl2rclip-tiny", **settings).fit((paths * n)[:n], np.arange(n) % 5)
height, width = backbone.preprocessing.enlarged(8, 7).size
tower = 4 * 4 * sum(p.numel() for p in backbone.model.visual.parameters())
print(peak() - before, n * height * width * 3 + tower)
"""


def memory(device: torch.device) -> list[dict]:
    """Growth of the peak of a fit of many images, beside pixels and tower (weights, gradients, moments) on paper."""
    n = 40_000
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), 50, (80, 60))
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *paths, str(n)], capture_output=True, text=True, check=True
        )
    peak, paper = map(int, done.stdout.split())
    values = {"ours": peak / 1e6, "other": paper / 1e6}
    note = f"{n} images of skl2rclip-tiny; beyond a fit of twenty images"
    return [
        row("peak memory of a fit", "images x pixels + tower, on paper", values, "at most 1.3 times", note, "MB", True)
    ]


def growth(device: torch.device) -> list[dict]:
    """How the cost grows with images, ranks, context tokens and image size; also drawn."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    backbone = backbone_of()

    def text(n_ranks: int, m: int) -> float:
        prompts = make_prompts(backbone, device, n_ranks, m)

        def step() -> None:
            prompts.zero_grad()
            prompts().sum().backward()

        return alternate({"step": step}, device, 2)["step"]

    ranks, context = [10, 30, 100, 300, 1000], [2, 4, 8, 16, 32, 64]
    curves["ranks K (m = 8), text step"] = (ranks, [text(k, 8) for k in ranks])
    curves["context tokens m (K = 20), text step"] = (context, [text(20, m) for m in context])
    numbers, times = [500, 1000, 2000, 4000], []
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), numbers[-1], (80, 60))
        for n in numbers:
            model = classifier_of("skl2rclip-tiny", prompt_epochs=5, image_epochs=1, random_state=0, device=str(device))
            forget_embeddings()
            times.append(seconds(functools.partial(model.fit, paths[:n], np.arange(n) % 5), device))
    curves["images N, fit of skl2rclip-tiny, 5 + 1 epochs"] = (numbers, times)
    sizes, times = [64, 128, 224, 320], []
    for size in sizes:
        config = open_clip.get_model_config(MODEL)
        config["vision_cfg"]["image_size"] = size
        tower = open_clip.CLIP(**{key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}).visual.to(
            device
        )
        images = torch.randn(16, 3, size, size, device=device)
        step = functools.partial(lambda tower, images: tower(images).sum().backward(), tower, images)
        times.append(alternate({"step": step}, device, 2)["step"])
    curves["side of the image, ViT-B/32 step of 16"] = (sizes, times)
    draw(curves, HERE / f"growth-{device.type}.png")
    rows = []
    for name, (x, y) in curves.items():
        slope = float(np.polyfit(np.log(x), np.log(y), 1)[0])
        values = ", ".join(f"{a}: {b:.2f} s" for a, b in zip(x, y, strict=True))
        rows.append(
            {
                "what": f"growth with {name}",
                "against": "",
                "ratio": f"exponent {slope:.2f}",
                "wanted": "",
                "note": values,
            }
        )
    return rows


def draw(curves: dict[str, tuple[list[int], list[float]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(4 * len(curves), 3.2), layout="constrained")
    for axis, (name, (x, y)) in zip(axes, curves.items(), strict=True):
        axis.loglog(x, y, "o-")
        axis.loglog(x, [y[-1] * v / x[-1] for v in x], ":", color="grey", label="linear")
        axis.set_xlabel(name)
        axis.set_ylabel("seconds")
        axis.legend()
    figure.savefig(file, dpi=90)


ROWS: tuple[Callable[[torch.device], list[dict]], ...] = (
    text_step,
    text_families,
    stage1_epoch,
    search,
    search_in_processes,
    beside_other_work,
    predict,
    small_models,
    reading_the_tower,
    stage2_step,
    recipe,
    memory,
    growth,
)


def row(
    what: str,
    against: str,
    values: dict[str, float],
    wanted: str,
    note: str = "",
    unit: str = "s",
    inverse: bool = False,
) -> dict:
    """A line of the table: `other` over `ours`, how many times faster; with `inverse` ours over `other`."""
    ratio = values["ours"] / values["other"] if inverse else values["other"] / values["ours"]
    figures = f"{values['ours']:.3g} {unit} against {values['other']:.3g} {unit}"
    return {
        "what": what,
        "against": against,
        "ratio": f"{ratio:.2f}",
        "wanted": wanted,
        "note": f"{figures}; {note}".rstrip("; "),
    }


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{name}, {joblib.cpu_count()} cores, torch {torch.__version__}"


def write(results: dict[str, dict[str, Any]], file: Path) -> None:
    parts = ["# Speed", "Made by `python benchmarks/speed.py`; see there for what each row does."]
    for device in ("cpu", "cuda"):
        parts.append(f"## {device}")
        if device not in results:
            parts.append("Not run on a GPU yet: `python benchmarks/speed.py --device cuda`.")
            continue
        lines = ["| what | against | ratio | wanted | figures |", "|---|---|---|---|---|"]
        for rows in results[device]["rows"].values():
            for line in rows:
                lines.append(
                    "| " + " | ".join(line[key] for key in ("what", "against", "ratio", "wanted", "note")) + " |"
                )
        parts += [f"On {results[device]['machine']}.", "\n".join(lines)]
        image = HERE / f"growth-{device}.png"
        if image.is_file():
            parts.append(f"![How the cost grows]({image.name})")
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], choices=[function.__name__ for function in ROWS])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    file = HERE / "speed.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    mine = results.setdefault(device.type, {"rows": {}})
    mine["machine"] = machine(device)
    for function in ROWS:
        if options.only and function.__name__ not in options.only:
            continue
        rows = function(device)
        for line in rows:
            print(line["what"], line["ratio"], line["note"], sep=": ", flush=True)
        mine["rows"][function.__name__] = rows
        mine["rows"] = {f.__name__: mine["rows"][f.__name__] for f in ROWS if f.__name__ in mine["rows"]}
        file.write_text(json.dumps(results, indent=1) + "\n")
        write(results, HERE / "speed.md")


if __name__ == "__main__":
    main()
