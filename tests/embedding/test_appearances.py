import os
import time

import numpy as np
import pytest
from PIL import Image

from skl2rclip._embedding import appearances
from skl2rclip._embedding.appearances import appearances_of
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import FULL_RANGE
from skl2rclip._images.likeness import APPEARANCE, appearance_of
from skl2rclip.errors import UnreadableImagesError


@pytest.fixture
def drawn(tmp_path):
    """Paths, arrays and PIL images; files are older than their stamp can hide a change of."""
    patches = np.random.default_rng(0).integers(0, 255, (3, 9, 12, 3), np.uint8)
    paths = [tmp_path / f"{row}.png" for row in range(2)]
    for path, patch in zip(paths, patches, strict=False):
        Image.fromarray(patch).resize((90, 70)).save(path)
        os.utime(path, times=(time.time() - 60,) * 2)
    return [*paths, paths[0], patches[2], Image.fromarray(patches[2])]


def looked_at(images, folder=None, max_memory=None):
    return appearances_of(stamped(as_image_list(images)), folder, 2, max_memory, FULL_RANGE)


def test_each_image_has_its_own_appearance_in_the_order_of_x(drawn):
    seen = looked_at(drawn)
    assert (seen.shape, seen.dtype) == ((5,), APPEARANCE)
    expected = [Image.open(drawn[0]), Image.open(drawn[1]), Image.open(drawn[0]), *[Image.fromarray(drawn[3])] * 2]
    for row, image in zip(seen, expected, strict=True):
        assert row.tobytes() == appearance_of(image).tobytes()


@pytest.mark.parametrize("with_folder", [True, False])
def test_what_was_looked_at_is_not_decoded_again_by_this_process_or_with_the_folder(
    drawn, with_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "cache" if with_folder else None
    first = looked_at(drawn, folder)
    monkeypatch.setattr(appearances, "read_image", None)
    if with_folder:
        forget_embeddings()
    assert looked_at(drawn, folder).tobytes() == first.tobytes()


def test_a_file_that_has_changed_is_looked_at_again(drawn):
    before = looked_at(drawn[:1])
    Image.new("RGB", (90, 70), "red").save(drawn[0])
    assert looked_at(drawn[:1])["digest"].tobytes() != before["digest"].tobytes()


def test_what_cannot_be_decoded_is_named(drawn, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(drawn[0].read_bytes()[:-200])
    with pytest.raises(UnreadableImagesError, match=r"X\[1\].*cut.png"):
        looked_at([drawn[1], cut])
