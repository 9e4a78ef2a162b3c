"""What a fit does not do twice, and does not wait for: counted, not timed."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._training import stages as training
from tests.support.processes import output_of

# each makes the host wait for a device: its result is a number, or has a shape, that depends on values there
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero"}


class Waits(TorchDispatchMode):
    """Notes the operations that would wait for a device, but for those of the optimiser."""

    def __init__(self):
        super().__init__()
        self.names = []
        self.is_off = False

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool
            for part in arguments
            if isinstance(part, list | tuple)
            for index in part
        )
        if not self.is_off and (name in WAITING or by_mask):
            self.names.append(name)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_step_waits_for_the_device(make_classifier, shades, monkeypatch, image_tower, weighted):
    epochs, waits = [], Waits()
    epoch, step = training._epoch, torch.optim.AdamW.step

    def watched(*arguments):
        epochs.append(arguments)
        with waits:
            return epoch(*arguments)

    def unwatched(self, *arguments, **options):
        waits.is_off = True  # on the CPU it reads its counter of steps, which on CUDA lies on the device
        step(self, *arguments, **options)
        waits.is_off = False

    monkeypatch.setattr(training, "_epoch", watched)
    monkeypatch.setattr(torch.optim.AdamW, "step", unwatched)
    weight = np.linspace(0.5, 2, 40) if weighted else None
    make_classifier(image_tower=image_tower, batch_size=8).fit(*shades, sample_weight=weight)
    assert len(epochs) == 3 if image_tower == "frozen" else len(epochs) >= 3 + 4 * 2  # with four folds left out
    assert waits.names == []


def test_the_watch_itself_sees_what_waits():
    with Waits() as waits:
        x = torch.ones(3)
        x.sum().item()
        x[x > 0]
        x.nonzero()
    assert waits.names == ["_local_scalar_dense", "index", "nonzero"]


@pytest.mark.parametrize("batch_size", [8, "auto"])
def test_memory_running_out_halves_an_automatic_batch_size(make_classifier, shades, monkeypatch, batch_size):
    sizes, embed = [], training.Learner.embed_pixels

    def small_device(self, pixels, augmented):
        if len(pixels) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if augmented:
            sizes.append(len(pixels))
        return embed(self, pixels, augmented)

    def small_tower(self, pixels, size, original=ImageEncoding._of_pixels):
        if size > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, pixels, size)

    monkeypatch.setattr(training.Learner, "embed_pixels", small_device)
    monkeypatch.setattr(ImageEncoding, "_of_pixels", small_tower)
    forget_embeddings()
    fitted = make_classifier(image_tower="finetune", image_adapter=None, image_epochs=1, batch_size=batch_size).fit(
        *shades
    )
    # of 40 images, after the trial of ten
    assert sizes == ([8] * 5 if batch_size == 8 else [20, 20, 20])
    assert len(fitted.predict(shades[0])) == 40
    with pytest.raises(MemoryError, match=r"batch_size=32 while .*: lower batch_size or set it to 'auto'"):
        make_classifier(image_tower="finetune", batch_size=32, prompt_epochs=0).fit(*shades)


def test_not_even_one_image_fits(make_classifier, shades, monkeypatch):
    def full(self, pixels, augmented):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training.Learner, "embed_pixels", full)
    with pytest.raises(MemoryError, match="batch_size='auto'"):
        make_classifier(image_tower="finetune", batch_size="auto", prompt_epochs=0).fit(*shades)


def test_an_automatic_batch_size_keeps_less_before_it_becomes_smaller(make_classifier, shades, monkeypatch):
    """Where activations do not fit, they are computed again: the same gradients of the same batches."""
    tried, try_step = [], training._try_step

    def fails_once(stage, data, size):
        tried.append(size)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        try_step(stage, data, size)

    settings = {"image_tower": "finetune", "prompt_epochs": 0, "image_epochs": 1, "augment": False}
    kept, fits = {}, {}
    for batch_size in (64, "auto"):
        n_bytes = []
        with (
            torch.autograd.graph.saved_tensors_hooks(
                lambda tensor, n_bytes=n_bytes: n_bytes.append(tensor.nbytes) or tensor, lambda tensor: tensor
            ),
            monkeypatch.context() as patch,
        ):
            patch.setattr(training, "_try_step", fails_once)
            tower_steps = make_classifier(**settings, batch_size=batch_size)
            fits[batch_size] = tower_steps.fit(*shades)
        kept[batch_size] = sum(n_bytes)
    assert tried == [40, 40]
    expected = fits[64].predict_proba(shades[0])
    np.testing.assert_allclose(fits["auto"].predict_proba(shades[0]), expected, atol=1e-5)
    # of two steps, the trial and the epoch, less is kept than of the one without
    assert kept["auto"] < 2 * 0.9 * kept[64]


def test_a_process_loads_a_backbone_once(tiny, shade_paths, tmp_path):
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip import backbone
loads, load = [], backbone._load
backbone._load = lambda *arguments: loads.append(arguments) or load(*arguments)
paths, name = {shade_paths!r}, {tiny!r}
settings = dict(image_tower="frozen", prompt_epochs=1, device="cpu", n_context_tokens=3)
fitted = L2RCLIPClassifier(name, **settings).fit(paths, list(range(5)) * 8)
fitted.predict(paths)
CLIPImageEncoder("local-dir:" + os.path.relpath(name.removeprefix("local-dir:"))).fit().transform(paths)
import pickle
pickle.loads(pickle.dumps(fitted)).predict(paths)
print(len(loads))
"""
    assert output_of(code).strip() == "1"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_no_step_waits_for_cuda(make_classifier, shades, monkeypatch, image_tower):
    epoch = training._epoch

    def watched(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return epoch(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training, "_epoch", watched)
    make_classifier(image_tower=image_tower, batch_size=8, device="cuda").fit(*shades)
