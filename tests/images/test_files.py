"""What the system is asked about paths, once, and when two of them are the same."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skl2rclip._images import files as files_module
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import open_image
from skl2rclip._images.files import ImageFile, rows_of_each, stamped
from tests.support.helpers import file_access, write_images


@pytest.fixture
def files(tmp_path):
    return [Path(path) for path in write_images(tmp_path, 4)]


def test_a_path_is_asked_about_once_and_stays_as_it_was_given(files, monkeypatch):
    monkeypatch.chdir(files[0].parent)
    X = [files[0], str(files[1]), files[0], "00.png", files[2]]
    with file_access() as asked:
        first = stamped(as_image_list(X))
        assert stamped(first) == first
    assert sum(asked.stats[str(path)] for path in (*files, "00.png")) == 3
    assert [image.path for image in first] == X
    assert first[0].stamp == first[3].stamp != first[1].stamp
    assert first[3].location == str(files[0])
    assert [os.fspath(image) for image in first] == [str(path) for path in X]
    assert first[1].size == os.path.getsize(files[1])


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_path_through_a_link_is_not_taken_for_another_file(files, tmp_path):
    pixels = np.asarray(Image.open(files[0]))
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    Image.fromarray(255 - pixels).save(tmp_path / "elsewhere" / "00.png")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "inner")
    X = [files[0], f"{tmp_path}/link/../00.png"]
    first, second = stamped(X)
    np.testing.assert_array_equal(open_image(first), pixels)
    np.testing.assert_array_equal(open_image(second), 255 - pixels)
    assert first.location != second.location
    assert first.stamp != second.stamp


def test_what_is_no_file_stays_as_it_is():
    given = [Image.new("L", (2, 2)), np.zeros((2, 2), np.uint8)]
    assert all(image is original for image, original in zip(stamped(given), given, strict=True))


def test_a_stamp_changes_with_the_file(files):
    before = ImageFile.of(files[0])
    assert ImageFile.of(files[0]) == before
    os.utime(files[0], (1e9, 1e9))
    after = ImageFile.of(files[0])
    assert after.stamp != before.stamp
    assert not after.is_stable()  # its status has changed just now


def test_what_changed_long_ago_is_stable(files, monkeypatch):
    now = files_module.time.time()
    image = ImageFile.of(files[0])
    for later, expected in ((1.5, False), (60, True)):
        monkeypatch.setattr(files_module.time, "time", lambda later=later: now + later)
        assert image.is_stable() == expected
        assert not ImageFile.of("nothing").is_stable()


def test_rows_of_one_image_are_put_together(files):
    content, image = b"content", Image.new("L", (2, 2))
    images = stamped([files[0], content, image, str(files[0]), bytes(content), image, Image.new("L", (2, 2)), files[1]])
    assert rows_of_each(images, range(8)) == {0: [0, 3], 1: [1, 4], 2: [2, 5], 6: [6], 7: [7]}
    assert rows_of_each(images, [3, 5, 0]) == {3: [3, 0], 5: [5]}
