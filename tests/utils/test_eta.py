"""How long work will take, with a clock that the tests turn."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from skl2rclip import CLIPImageEncoder
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.encoding import SMALL_BATCH, ImageEncoding
from skl2rclip._utils import eta
from skl2rclip._utils.devices import resolve_device
from skl2rclip._utils.eta import ProgressMonitor, in_words, quicker_device, seconds_left
from skl2rclip.errors import LongWorkWarning


class Clock:
    """Stands still but for what it is told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(eta, "_clock", clock)
    return clock


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 36, 44, 3), dtype=np.uint8)


def run(clock, seconds, total=None):
    """Let steps of so many seconds pass, and return what is warned of, by the number of the step."""
    monitor, said = ProgressMonitor("The work", total or len(seconds), "step", ["this", "that"]), {}
    for number, each in enumerate(seconds, 1):
        clock.now += each
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monitor.step()
        if caught:
            [warning] = caught
            said[number] = warning
    return said


def test_what_is_left_follows_from_the_steps_behind_the_first():
    assert seconds_left((30.0, 1), (34.0, 3), 13) == 20.0
    assert seconds_left((0.0, 0), (70.0, 1), 4) == 210.0
    assert seconds_left((3.0, 5), (9.0, 5), 10) is None
    assert seconds_left((3.0, 5), (9.0, 10), 10) == 0.0


def test_long_work_is_told_of_once_with_the_estimate_and_what_is_quicker(clock):
    said = run(clock, [5.0] + [2.0] * 999)
    assert list(said) == [3]  # two measured steps behind the first
    message = str(said[3].message)
    assert said[3].category is LongWorkWarning
    assert "The work will take about 33 minutes from now on: 997 of 1000 steps are left, 2 s each" in message
    assert "Quicker: this; that." in message
    assert said[3].filename == __file__


def test_a_slow_first_step_is_not_taken_for_all(clock):
    assert not run(clock, [20.0] + [0.01] * 999)


def test_a_first_step_of_more_than_a_minute_is_told_of_at_once(clock):
    said = run(clock, [90.0] * 10)
    assert list(said) == [1]
    assert "about 14 minutes" in str(said[1].message)


def test_short_work_is_not_told_of(clock):
    assert not run(clock, [0.5] * 100)  # 50 seconds
    assert not run(clock, [20.0] * 4)  # more than half of it is over when it shows


def test_steps_of_milliseconds_are_measured_for_two_seconds(clock):
    [number] = run(clock, [0.001] * 100_000)
    assert number == pytest.approx(2001, abs=2)


def test_work_that_becomes_slow_is_told_of_when_it_shows(clock):
    [number] = run(clock, [0.1] * 100 + [3.0] * 100, total=200)
    assert 100 < number < 140


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (31, "about 1 minute"),
        (150, "about 2 minutes"),
        (80 * 60, "about 80 minutes"),
        (91 * 60, "about 2 hours"),
        (47 * 3600, "about 47 hours"),
        (60 * 3600, "about 2 days"),
        (10**7, "about 116 days"),
    ],
)
def test_times_are_in_words(seconds, words):
    assert in_words(seconds) == words


def test_the_quicker_device_is_one_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert quicker_device(torch.device("cpu")) == ["a GPU (none is usable on this machine)"]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert quicker_device(torch.device("cpu")) == ["device='mps'"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert quicker_device(torch.device("cpu")) == ["device='cuda'"]
    assert quicker_device(torch.device("cuda")) == []
    assert resolve_device("auto") == torch.device("cuda")  # as "auto" would take it


@pytest.fixture
def slow_tower(monkeypatch, clock):
    """Each image that passes the frozen tower takes so many seconds of the clock."""
    forget_embeddings()
    seconds = {"each": 30.0}
    original = ImageEncoding._of_pixels

    def slow(self, pixels, batch_size):
        def tower(batch):
            clock.now += seconds["each"] * len(batch)
            return self.tower(batch)

        return original(replace(self, tower=tower), pixels, batch_size)

    monkeypatch.setattr(ImageEncoding, "_of_pixels", slow)
    return seconds


def test_embedding_is_told_of_after_a_few_images(slow_tower, clock, tiny, images):
    encoder = CLIPImageEncoder(tiny, device="cpu", batch_size=2).fit()
    began = clock.now
    with pytest.warns(LongWorkWarning, match="Embedding the images on cpu will take about 17 minutes") as caught:
        encoder.transform(images)
    [warning] = [each for each in caught if each.category is LongWorkWarning]
    text = str(warning.message)
    assert "34 of 40 images are left, 30 s each" in text
    for remedy in ("a GPU", "a smaller model_name", "n_jobs", "embedding_cache=folder"):
        assert remedy in text
    assert warning.filename == __file__
    assert clock.now - began == 40 * 30.0


def test_a_large_batch_is_not_waited_for(slow_tower, tiny, images):
    slow_tower["each"] = 3.0
    encoder = CLIPImageEncoder(tiny, device="cpu", batch_size=128).fit()
    with pytest.warns(LongWorkWarning, match=f"{40 - 3 * SMALL_BATCH} of 40 images are left") as caught:
        encoder.transform(images)
    assert len(caught) == 1


def test_quick_embedding_is_silent(slow_tower, tiny, images):
    slow_tower["each"] = 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CLIPImageEncoder(tiny, device="cpu").fit().transform(images)


def test_a_prediction_is_told_of_like_a_fit(slow_tower, clock, make_classifier, images):
    y = np.tile(np.arange(5), 8)
    with pytest.warns(LongWorkWarning, match="Embedding the images on cpu"):
        classifier = make_classifier().fit(images, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict(images)  # known by now
    others = np.random.default_rng(1).integers(0, 256, (30, 36, 44, 3), dtype=np.uint8)
    with pytest.warns(LongWorkWarning, match="Embedding the images on cpu"):
        classifier.predict(others)


@pytest.mark.parametrize(
    ("image_tower", "stage", "remedies"),
    [
        ("frozen", "prompts", ["fewer prompt_epochs", "a larger batch_size", "early_stopping=True"]),
        ("finetune", "image_tower", ["image_tower='frozen'", "fewer image_epochs", "a smaller model_name"]),
    ],
)
def test_training_is_told_of_with_the_parameters_of_its_stage(
    clock, make_classifier, shades, monkeypatch, image_tower, stage, remedies
):
    step = torch.optim.AdamW.step

    def slow(self, *arguments, **options):
        clock.now += 3.0
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", slow)
    epochs = {"prompt_epochs": 12 if stage == "prompts" else 0, "image_epochs": 12}
    classifier = make_classifier(image_tower=image_tower, batch_size=10, **epochs)
    with pytest.warns(LongWorkWarning, match=f"The stage '{stage}' of the training on cpu will take about 2") as caught:
        classifier.fit(*shades)
    [text] = [str(each.message) for each in caught if f"stage '{stage}'" in str(each.message)]
    assert "45 of 48 steps are left, 3 s each" in text
    for remedy in remedies:
        assert remedy in text
    assert caught[0].filename == __file__


def test_the_warning_can_be_filtered_by_its_class(slow_tower, tiny, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LongWorkWarning)
        CLIPImageEncoder(tiny, device="cpu").fit().transform(images)
    assert issubclass(LongWorkWarning, UserWarning)


def test_small_batches_first_change_no_embedding(tiny, images):
    encoder = CLIPImageEncoder(tiny, device="cpu").fit()
    plain = encoder.transform(images[: 6 * SMALL_BATCH])  # so few that nothing is watched
    forget_embeddings()
    np.testing.assert_allclose(encoder.transform(images)[: len(plain)], plain, atol=1e-6)
