import os
import time

import pytest

from skl2rclip._utils import file_locks
from skl2rclip._utils import scratch as scratch_module
from skl2rclip._utils.scratch import scratch_folder


def left_behind(parent, name, age=0.0):
    """A folder as a killed process leaves it."""
    folder = parent / f".{name}-{'0' * 12}.skl2rclip-scratch"
    folder.mkdir()
    (folder / "half.bin").write_text("half")
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def test_it_vanishes_also_after_an_error(tmp_path):
    def work():
        with scratch_folder(tmp_path, "model") as folder:
            (folder / "x").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["model", "what [is] *this?", "x" * 240])
def test_leftovers_of_the_same_name_go_and_nothing_else_does(tmp_path, name):
    left, other = left_behind(tmp_path, name[:100]), left_behind(tmp_path, "another")
    (tmp_path / f".{name[:100]}-notes").mkdir()
    with scratch_folder(tmp_path, name) as mine, scratch_folder(tmp_path, name) as second:
        assert mine.is_dir()
        assert second.is_dir()
        assert not left.exists()
    assert sorted(os.listdir(tmp_path)) == sorted([other.name, f".{name[:100]}-notes"])


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a right to make links")
def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    (tmp_path / f".model-{'0' * 12}.skl2rclip-scratch").symlink_to(tmp_path / "precious")
    with scratch_folder(tmp_path, "model"):
        pass
    assert (tmp_path / "precious" / "thesis.txt").exists()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
def test_what_belongs_to_another_user_stays(tmp_path):
    left = left_behind(tmp_path, "model")
    os.chown(left, 65534, 65534)
    with scratch_folder(tmp_path, "model"):
        assert left.exists()


def test_where_folders_cannot_be_locked_age_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(file_locks, "fcntl", None)
    monkeypatch.setattr(file_locks, "msvcrt", None)
    left = left_behind(tmp_path, "model", age=3600)
    with scratch_folder(tmp_path, "model"):
        assert left.exists()
    os.utime(left, (time.time() - 2 * 24 * 3600,) * 2)
    with scratch_folder(tmp_path, "model"):
        assert not left.exists()


def test_who_is_taken_for_dead_before_holding_the_folder_makes_another(tmp_path, monkeypatch):
    """Another process may look for leftovers between the making of a folder and its locking."""
    take, n_locks = scratch_module._FolderLock.take, []

    def late(lock, *, wait):
        n_locks.append(lock._folder)
        if wait and len(n_locks) == 1:
            scratch_module.remove_leftovers(tmp_path, "model")
        take(lock, wait=wait)

    monkeypatch.setattr(scratch_module._FolderLock, "take", late)
    with scratch_folder(tmp_path, "model") as folder:
        assert folder.is_dir()
        assert folder != n_locks[0]
