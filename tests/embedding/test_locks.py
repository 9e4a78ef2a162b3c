"""Lock files whose lock is the owner's life."""

import subprocess
import sys

import pytest

from skl2rclip._embedding.locks import OwnerLock, is_held


def test_a_lock_is_held_until_it_is_released(tmp_path):
    path = tmp_path / "owner.lock"
    assert not is_held(path)
    lock = OwnerLock(path)
    assert is_held(path)
    with pytest.raises(FileExistsError):
        OwnerLock(path)
    assert is_held(path)
    lock.release()
    assert not path.exists()
    lock.release()  # a second time does nothing


def test_the_lock_of_a_process_ends_with_it(tmp_path):
    path = tmp_path / "owner.lock"
    code = (
        "import sys, time; from pathlib import Path; from skl2rclip._embedding.locks import OwnerLock;"
        "lock = OwnerLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            assert is_held(path)
        finally:
            process.kill()
    assert path.exists()
    assert not is_held(path)


def test_without_locks_there_is_no_lock_file_either(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("No locks available")

    monkeypatch.setattr("skl2rclip._embedding.locks.lock", refuse)
    with pytest.raises(OSError, match="No locks"):
        OwnerLock(tmp_path / "owner.lock")
    assert not list(tmp_path.iterdir())
