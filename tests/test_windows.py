"""Files as Windows treats them, imitated here: what is written, replaced, locked and removed by each part."""

import os
import sys
import time
from pathlib import PureWindowsPath

import numpy as np
import pytest

from skl2rclip import L2RCLIPClassifier
from skl2rclip._cli.output import whole_file
from skl2rclip._embedding import pixel_store, sqlite
from skl2rclip._embedding.locks import OwnerLock, is_held
from skl2rclip._embedding.store import EmbeddingStore
from skl2rclip._images import files
from skl2rclip._utils import scratch
from skl2rclip._utils.scratch import held_unless_taken, only_holder, put_in_place, scratch_folder, sync
from tests.support import windows

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux what is open")


@pytest.fixture
def on_windows(monkeypatch):
    windows.imitate(monkeypatch)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(scratch, "_PATIENCE_SECONDS", 0.1)


def test_the_imitation_refuses_what_windows_refuses(on_windows, tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with open(tmp_path / "a", "rb") as opened:
        for refused in (
            lambda: os.replace(tmp_path / "b", tmp_path / "a"),
            lambda: os.replace(tmp_path / "a", tmp_path / "c"),
            lambda: (tmp_path / "a").unlink(),
            lambda: os.open(tmp_path, os.O_RDONLY),
        ):
            with pytest.raises(PermissionError):
                refused()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(opened.fileno())
    mapped = np.memmap(tmp_path / "a", np.uint8, "r")
    with pytest.raises(PermissionError):
        (tmp_path / "a").unlink()
    del mapped
    (tmp_path / "a").unlink()


# ------------------------------------------------------------------- locks


def test_folders_are_held_by_a_file_that_is_named_after_them_and_goes_with_the_lock(on_windows, tmp_path, monkeypatch):
    places = tmp_path / "temporary"
    places.mkdir()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(places))
    folder = tmp_path / "model"
    folder.mkdir()
    with only_holder(folder):
        assert len(os.listdir(places)) == 1
        with held_unless_taken(folder) as is_mine:
            assert not is_mine
        with held_unless_taken(tmp_path) as is_mine:
            assert is_mine
    with held_unless_taken(folder) as is_mine:
        assert is_mine
    assert os.listdir(places) == []


def test_scratch_folders_of_the_living_stay_and_those_of_the_dead_go(on_windows, tmp_path):
    left = tmp_path / f".model-{'0' * 12}.skl2rclip-scratch"
    left.mkdir()
    with scratch_folder(tmp_path, "model") as mine, scratch_folder(tmp_path, "model") as other:
        assert not left.exists()
        assert mine.is_dir()
        assert other.is_dir()
    assert os.listdir(tmp_path) == []


def test_the_lock_of_an_owner_is_seen_and_ends(on_windows, tmp_path):
    lock = OwnerLock(tmp_path / "owner.lock")
    assert is_held(tmp_path / "owner.lock")
    lock.release()
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- renames


def test_what_is_open_elsewhere_is_waited_for(on_windows, tmp_path, monkeypatch):
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_bytes(b"new")
    old.write_bytes(b"old")
    opened, waited = open(old, "rb"), []  # noqa: SIM115 - closed while it is waited for

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            opened.close()

    monkeypatch.setattr(time, "sleep", sleep)
    put_in_place(new, old)
    assert len(waited) == 3
    assert old.read_bytes() == b"new"


def test_what_stays_open_is_an_error_that_names_it(on_windows, soon, tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    with open(tmp_path / "old", "rb"), pytest.raises(PermissionError, match="old"):
        put_in_place(tmp_path / "new", tmp_path / "old")


def test_an_error_that_is_not_of_open_files_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "absent", tmp_path / "there")


def test_files_and_folders_are_seen_to_the_disk_as_far_as_that_goes(on_windows, tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    os.chmod(tmp_path / "a", 0o444)
    sync(tmp_path / "a")
    sync(tmp_path)


# ------------------------------------------------------- models, caches, rows


def test_a_model_is_saved_saved_over_and_loaded_while_the_first_one_is_in_use(
    on_windows, soon, fitted_classifier, tmp_path, shades
):
    first, second = fitted_classifier(), fitted_classifier(decision="mean")
    path = tmp_path / "model"
    first.save(path, include_backbone=True)
    loaded = L2RCLIPClassifier.load(path)
    second.save(path)
    second.save(path, include_backbone=True)
    np.testing.assert_array_equal(loaded.predict_proba(shades[0]), first.predict_proba(shades[0]))
    assert L2RCLIPClassifier.load(path).decision == "mean"
    assert [name for name in os.listdir(tmp_path) if name != "model"] == []


def test_what_an_earlier_save_left_and_is_still_mapped_does_not_fail_the_next(
    on_windows, soon, fitted_classifier, tmp_path
):
    path = tmp_path / "model"
    fitted_classifier().save(path, include_backbone=True)
    [weights] = (path / "backbone").glob("*.safetensors")
    mapped = np.memmap(weights, np.uint8, "r")
    fitted_classifier(decision="mean").save(path)  # which needs no backbone of its own
    assert L2RCLIPClassifier.load(path).decision == "mean"
    del mapped
    fitted_classifier(decision="mean").save(path)
    assert not weights.exists()


def test_a_fit_that_is_kept_ends_and_returns_at_once_when_it_is_called_again(
    on_windows, make_classifier, shades, tmp_path
):
    fitted = make_classifier(checkpoint_dir=str(tmp_path / "fits")).fit(*shades)
    again = make_classifier(checkpoint_dir=str(tmp_path / "fits")).fit(*shades)
    assert again.resumed_from_epoch_ is not None
    np.testing.assert_array_equal(again.predict_proba(shades[0]), fitted.predict_proba(shades[0]))
    [folder] = (tmp_path / "fits").iterdir()
    assert {path.name for path in folder.rglob("*") if path.is_file()} >= {"model.json", "fit.json"}
    assert not list(folder.rglob("*.lock"))


def test_embeddings_are_kept_claimed_and_cleared(on_windows, tmp_path):
    store = EmbeddingStore(tmp_path / "cache")
    row = np.array([1, 0, 0], np.float32)
    with store.owner() as owner:
        assert store.claim([b"a"], owner) == [b"a"]
        assert store.put({b"a": row})
    assert store.lookup([b"a"])[b"a"].tolist() == row.tolist()
    (tmp_path / "cache" / "embeddings-2.sqlite").write_bytes(b"x" * 10_000)
    with pytest.warns(UserWarning, match="is damaged"):
        EmbeddingStore(tmp_path / "cache").put({b"a": row})
    assert not list((tmp_path / "cache").glob("*.lock"))


def test_a_cache_on_a_network_share_has_an_address_that_sqlite_takes():
    assert sqlite.address_of(PureWindowsPath(r"\\server\share\a b\x.sqlite")) == "file:////server/share/a%20b/x.sqlite"
    assert sqlite.address_of(PureWindowsPath(r"C:\a\x.sqlite")) == "file:///C:/a/x.sqlite"


def test_pixels_lie_in_a_file_with_a_name_where_the_system_has_no_others(monkeypatch):
    """On Windows a temporary file has a name, and goes with the last of its handles, that of the map."""
    from tempfile import NamedTemporaryFile

    monkeypatch.setattr(pixel_store, "TemporaryFile", NamedTemporaryFile)
    store = pixel_store.PixelStore((2, 4, 4, 3), pixel_store.torch.device("cpu"), 0)
    assert store.place == "file"
    pixels = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    store.write(np.arange(2), pixels)
    [batch] = store.batches([pixel_store.torch.arange(2)])
    np.testing.assert_array_equal(batch.numpy(), pixels)


def test_rows_take_the_place_of_an_earlier_file(on_windows, tmp_path):
    target = tmp_path / "rows.csv"
    for text in ("first", "second"):
        with whole_file(str(target)) as path, open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    assert target.read_text(encoding="utf-8") == "second"


# ------------------------------------------------------------------- paths


def test_a_path_that_is_longer_than_windows_takes_is_said_to_be(monkeypatch):
    monkeypatch.setattr(files, "_MAX_PATH", 260)
    long = "/".join(["a" * 50] * 6) + ".png"
    assert "260 characters" in files.ImageFile.of(long).problem
    assert "260" not in files.ImageFile.of("a.png").problem


@pytest.mark.parametrize("name", [r"https:\host\a.png", "https:/host/a.png", r"s3:\bucket\a.png"])
def test_an_address_that_became_a_path_is_told_from_a_missing_file(name):
    assert "it was an address" in files.ImageFile.of(name).problem


def test_a_drive_is_no_address():
    assert files.address_hint(r"C:\photos\a.png", "") is None
    assert files.address_hint("C:/photos/a.png", "") is None
    assert "it was an address" not in files.ImageFile.of(r"C:\photos\a.png").problem
