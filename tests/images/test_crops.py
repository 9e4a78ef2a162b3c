"""Parts of files within boxes: which pixels they are, where they are known, and what is refused of them."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder, ImageCrop, find_unreadable, inspection
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import open_image, read_image
from skl2rclip._images.files import rows_of_each, stamped
from skl2rclip._images.memory import MemoryTicket
from skl2rclip.errors import UnreadableImagesError
from tests.support.small_images import shaded_images


def scene(size=(60, 40)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def read(crop):
    [image] = stamped(as_image_list([crop]))
    return np.asarray(open_image(image))


@pytest.fixture
def path(tmp_path):
    scene().save(tmp_path / "scene.png")
    return str(tmp_path / "scene.png")


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """Crops of one file that holds forty shaded images side by side, and their ranks."""
    path, y = tmp_path_factory.mktemp("sheet") / "sheet.png", np.tile(np.arange(5), 8)
    Image.fromarray(np.concatenate(shaded_images(y), axis=1)).save(path)
    return [ImageCrop(path, (44 * place, 0, 44, 36)) for place in range(40)], y


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((10, 5, 20, 30), (10, 5, 30, 35)),
        ((10.4, 4.6, 20.2, 30), (10, 5, 31, 35)),  # edges are rounded, not sides
        ((1.5, 2.5, 1, 1), (2, 3, 3, 4)),
        ((0, 0, 60, 40), (0, 0, 60, 40)),
        ((-1, -0.7, 20, 20), (0, 0, 19, 19)),  # a pixel beyond is cut
        ((50, 30, 11, 11), (50, 30, 60, 40)),
    ],
)
def test_a_crop_has_the_pixels_of_its_box(path, box, edges):
    np.testing.assert_array_equal(read(ImageCrop(path, box)), np.asarray(scene().crop(edges)))
    assert find_unreadable([ImageCrop(path, box)]) == {}


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (
            (50, 0, 20, 10),
            r"its box goes from \(50, 0\) to \(70, 10\), beyond the 60 x 40 pixels of the upright image; a",
        ),
        ((10, 10, 55, 35), r"if its last two numbers are the other corner, the box is \(x1, y1, x2 - x1, y2 - y1\)"),
        ((-3, 0, 20, 10), r"from \(-3, 0\)"),
        ((60, 0, 1, 10), "beyond the 60 x 40"),
        ((1e300, 0, 1e300, 10), "beyond the 60 x 40"),
    ],
)
def test_a_box_beyond_its_image_is_told_by_the_header(path, box, reason, tiny, through_tower):
    with open(path, "rb+") as file:
        file.truncate(100)  # there are no pixels to decode
    X = [ImageCrop(path, box)]
    with pytest.raises(UnreadableImagesError, match=reason) as raised:
        CLIPImageEncoder(tiny).fit_transform(X)
    assert f"X[0] ({path}, box (" in str(raised.value)
    assert not through_tower


def test_corners_become_sides_as_the_message_has_it(path):
    corners = x1, y1, x2, y2 = 10, 10, 55, 35  # noqa: RUF059  what the message has in it
    reason = find_unreadable([ImageCrop(path, corners)])[0]
    mended = eval(reason.rpartition("the box is ")[2])  # noqa: S307
    assert mended == (10, 10, 45, 25)
    assert find_unreadable([ImageCrop(path, mended)]) == {}


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((0, 0, 0, 5), "with sides of a pixel or more, got (0, 0, 0, 5)"),
        ((0, 0, 5, -2), "with sides of a pixel or more"),
        ((0.1, 0.2, 0.5, 0.5), "multiplying them with its sides"),
        ((0, 0, float("nan"), 5), "four finite numbers"),
        ((0, 0, np.inf, 5), "four finite numbers"),
        ((0, 0, 5), "four finite numbers, got (0, 0, 5)"),
        (("a", 0, 5, 5), "got ('a', 0, 5, 5)"),
        ("0 0 5 5", "got '0 0 5 5'"),
        (None, "got None"),
    ],
)
def test_a_box_that_is_none_is_refused_by_the_name_of_its_file(box, said):
    with pytest.raises(ValueError, match=r"box of a/b\.png must be \(x, y, width, height\) in pixels") as raised:
        ImageCrop("a/b.png", box)
    assert said in str(raised.value)


def test_a_path_is_asked_for():
    with pytest.raises(TypeError, match="path must be that of a file, got Image; crop an image itself"):
        ImageCrop(scene(), (0, 0, 5, 5))


def test_a_crop_is_a_value():
    crop = ImageCrop("a.png", [1, np.float32(2.5), np.int64(3), 4])
    assert crop == ImageCrop("a.png", (1, 2.5, 3, 4)) != ImageCrop("a.png", (1, 2, 3, 4))
    assert repr(crop) == "ImageCrop('a.png', (1, 2.5, 3, 4))"
    assert eval(repr(crop)) == crop  # noqa: S307
    assert pickle.loads(pickle.dumps(crop)) == crop
    assert {crop: 1}[ImageCrop("a.png", (1, 2.5, 3, 4))] == 1
    assert joblib.hash(crop) == joblib.hash(ImageCrop("a.png", (1, 2.5, 3, 4)))
    array = np.array([crop, crop])
    assert (array.dtype, array.shape) == (object, (2,))
    with pytest.raises(AttributeError):
        crop.box = (0, 0, 1, 1)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_boxes_are_of_the_upright_image(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene().save(tmp_path / f"a.{kind}", exif=exif)
    upright = np.asarray(open_image(tmp_path / f"a.{kind}"))
    assert upright.shape == {3: (40, 60, 3), 6: (60, 40, 3)}[orientation]
    crop = ImageCrop(tmp_path / f"a.{kind}", (5, 20, 30, upright.shape[0] - 20))
    assert find_unreadable([crop]) == {}
    np.testing.assert_array_equal(read(crop), upright[20:, 5:35])
    if orientation == 6:
        assert "40 x 60" in find_unreadable([ImageCrop(tmp_path / f"a.{kind}", (0, 0, 60, 40))])[0]


def test_a_large_jpeg_is_reduced_as_far_as_its_box_allows(tmp_path):
    image = scene((30, 20)).resize((1200, 800), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=95)
    [crop] = stamped([ImageCrop(tmp_path / "a.jpg", (400, 200, 640, 320))])
    asked = []

    def shrinkage(size):
        asked.append(size)
        return 4.0

    with MemoryTicket(4_000_000) as ticket:
        reduced = read_image(crop, None, ticket, shrinkage)
    assert asked == [(640, 320)]
    assert reduced.is_reduced
    assert reduced.image.size == (320, 160)
    expected = image.crop((400, 200, 1040, 520)).resize((320, 160), Image.Resampling.BOX)
    assert np.abs(np.asarray(reduced.image, float) - np.asarray(expected, float)).mean() < 4


def test_crops_of_a_file_are_different_images_and_equal_boxes_are_one(path):
    X = [ImageCrop(path, (0, 0, 9, 9)), path, ImageCrop(path, (0, 0, 9.2, 9)), ImageCrop(path, (0, 1, 9, 9))]
    assert list(rows_of_each(stamped(X), range(4)).values()) == [[0, 2], [1], [3]]


def test_a_crop_embeds_as_a_file_of_its_pixels(tiny, path, tmp_path):
    box = (20, 10, 30, 25)
    scene().crop((20, 10, 50, 35)).save(tmp_path / "part.png")
    whole, crop, part = CLIPImageEncoder(tiny).fit_transform([path, ImageCrop(path, box), str(tmp_path / "part.png")])
    np.testing.assert_allclose(crop, part, atol=1e-6)
    assert np.abs(crop - whole).max() > 1e-3


def test_the_cache_knows_crops_by_content_and_box(tiny, path, tmp_path, through_tower):
    encoder = CLIPImageEncoder(tiny, embedding_cache=tmp_path / "cache")
    crops = [ImageCrop(path, (0, 0, 20, 20)), ImageCrop(path, (5, 0, 20, 20))]
    first = encoder.fit_transform([*crops, path])
    assert sum(through_tower) == 3
    scene().save(tmp_path / "copy.png")
    again = encoder.transform([ImageCrop(tmp_path / "copy.png", crops[1].box), path, crops[0]])
    assert sum(through_tower) == 3
    np.testing.assert_array_equal(again, first[[1, 2, 0]])
    with pytest.raises(UnreadableImagesError, match="beyond the 60 x 40"):  # though the file is known
        encoder.transform([ImageCrop(path, (5, 0, 200, 20))])


def test_a_classifier_takes_crops_as_it_takes_images(make_classifier, sheet, shades):
    crops, y = sheet
    fitted = make_classifier().fit(crops, y)
    expected = make_classifier().fit(shades[0], y).predict_proba(shades[0])
    for X in (crops, np.array(crops), pd.Series(crops), pd.DataFrame({"crop": crops})):
        np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-5)
    display = inspection.LargestErrorsDisplay.from_estimator(fitted, crops, (y + 2) % 5, n_images=2)
    place = int(display.indices[0])
    assert display.names[0] == f"sheet.png at {44 * place}, 0"
    np.testing.assert_array_equal(display.thumbnails[0], shades[0][place])


def test_a_search_takes_crops(tiny, sheet):
    crops, y = sheet
    pipeline = make_pipeline(CLIPImageEncoder(tiny), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1, 10]}, cv=2, error_score="raise").fit(crops, y)
    assert search.predict(np.array(crops)).shape == (40,)


def test_a_single_crop_is_no_sequence(path):
    with pytest.raises(ValueError, match=r"got a single ImageCrop: write \[image\]"):
        as_image_list(ImageCrop(path, (0, 0, 9, 9)))
    with pytest.raises(ValueError, match=r"X\[0\] is an address"):
        as_image_list([ImageCrop("https://a.org/b.png", (0, 0, 9, 9))])
    assert find_unreadable([ImageCrop("none.png", (0, 0, 9, 9))]) == {0: "no such file"}
