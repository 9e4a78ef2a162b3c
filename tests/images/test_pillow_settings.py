"""What a user sets in Pillow holds in the processes that work for them, and nowhere else."""

import multiprocessing
import pickle

import joblib
import pytest
from PIL import Image, ImageFile

from skl2rclip import CLIPImageEncoder
from skl2rclip._images.pillow_settings import PillowSettings
from tests.support.helpers import truncate, write_pictures


def settings_here(estimator):
    """What a worker has set when it has been given an estimator."""
    return PillowSettings.of_this_process()


@pytest.fixture
def changed(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    return PillowSettings(True, 12345)


def test_the_defaults_are_pillows():
    assert PillowSettings() == PillowSettings.of_this_process()


def test_they_hold_in_joblibs_workers_and_go_with_the_next_search(changed, monkeypatch):
    with joblib.Parallel(n_jobs=2, backend="loky", timeout=120) as parallel:
        ask = joblib.delayed(settings_here)
        assert parallel([ask(CLIPImageEncoder())] * 2) == [changed] * 2
        monkeypatch.undo()
        assert parallel([ask(CLIPImageEncoder())] * 4) == [PillowSettings()] * 4


def test_they_hold_in_processes_that_are_spawned(changed):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(settings_here, (CLIPImageEncoder(),)).get(120) == changed


def test_truncated_pictures_are_read_by_workers_where_the_user_has_allowed_it(tiny, tmp_path, monkeypatch):
    paths = write_pictures(tmp_path, 3)
    truncate(paths[1])
    encoder = CLIPImageEncoder(tiny, device="cpu").fit()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    expected = encoder.transform(paths)
    [embeddings] = joblib.Parallel(n_jobs=2, backend="loky", timeout=120)([joblib.delayed(encoder.transform)(paths)])
    assert abs(embeddings - expected).max() < 1e-5


def test_a_pickle_of_another_process_changes_nothing(changed, monkeypatch):
    content = pickle.dumps(CLIPImageEncoder())
    monkeypatch.undo()
    loaded = pickle.loads(content)
    assert PillowSettings.of_this_process() == PillowSettings()
    assert vars(loaded) == vars(CLIPImageEncoder())


def test_pickles_do_not_depend_on_the_process_unless_something_was_set():
    assert "_pillow_settings" not in CLIPImageEncoder().__getstate__()
