"""Which value is white is decided from all pictures of a kind: the same pictures of eight bits are what comes out."""

import io
import json
import os
import pickle
import re
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, find_unreadable
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.embedder import check_headers, embed_images
from skl2rclip._embedding.store import digest_of
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import ImageFile, Scaled, open_image, stamped
from skl2rclip._images.white_levels import Whites
from skl2rclip._utils.names import EntryNames
from skl2rclip.embedding_store import EmbeddingStore
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError
from skl2rclip.inspection._thumbnails import thumbnails_of
from tests.support.helpers import embedded, file_access, toy_encoding

RNG = np.random.default_rng(0)
# bright, middling and dark; the brightest pixel of all is 255, which is in the first
EIGHT_BITS = [RNG.integers(0, most + 1, (20, 24)).astype(np.uint8) for most in (255, 130, 20)]
EIGHT_BITS[0][0, 0] = 255


def of_bits(n_bits, pictures=EIGHT_BITS):
    """The pictures in uint16, whose upper eight of so many bits are theirs."""
    return [picture.astype(np.uint16) << (n_bits - 8) | (1 << (n_bits - 8)) - 1 for picture in pictures]


def png(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


def tiff(array):
    content = io.BytesIO()
    tifffile.imwrite(content, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    return content.getvalue()


def decoded(images, whites=None):
    """What comes out of headers and decoder, as grey values, and what the user is told."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        settled, decided = check_headers(stamped(images), None, 2, None, whites or Whites())
    return [np.asarray(open_image(image)) for image in settled], decided, [str(each.message) for each in seen]


def refused(images, whites=None):
    """Reasons by index."""
    with pytest.raises(UnreadableImagesError) as caught:
        check_headers(stamped(images), None, 2, None, whites or Whites())
    return caught.value.failures


def same_as_eight_bits(pixels, pictures=EIGHT_BITS):
    for found, expected in zip(pixels, pictures, strict=True):
        np.testing.assert_array_equal(found, np.stack([expected] * 3, -1))


@pytest.mark.parametrize("as_given", [np.array, png, tiff, Image.fromarray], ids=["array", "png", "tiff", "I;16"])
@pytest.mark.parametrize("n_bits", [8, 10, 12, 14, 16])
def test_16_bits_hold_what_the_brightest_picture_needs(n_bits, as_given):
    pixels, whites, told = decoded([as_given(array) for array in of_bits(n_bits)])
    same_as_eight_bits(pixels)
    white = 2**n_bits - 1
    assert whites == Whites(uint16=white)
    if n_bits == 16:
        assert told == []
    else:
        [message] = told
        assert message.startswith(
            f"X[0] and 2 more hold 16 bits, whose highest value in all of them is {white}: {white} is taken as white. "
            "Where that is wrong, give "
        )


def test_arrays_of_colours_and_stacks_of_any_type_are_pictures():
    colours = RNG.integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    colours[0, 0, 0] = 255
    stacks = {
        "uint16": colours.astype(">u2") << 8,
        "int64": colours.astype(np.int64) * 256,
        "uint32": colours.astype(np.uint32) << 24,
        "float16": (colours / 255).astype(np.float16),
        "float32": (colours / 255).astype(np.float32),
        "float64": colours.astype(np.float64),
        "int16": colours.astype(np.int16),
    }
    for name, stack in stacks.items():
        pixels, _, _ = decoded(as_image_list(stack))
        for found, expected in zip(pixels, colours, strict=True):
            assert np.abs(found.astype(int) - expected).max() <= (name == "float16"), name
    masks = colours > 127
    pixels, whites, told = decoded(as_image_list(masks))
    np.testing.assert_array_equal(pixels, np.where(masks, 255, 0))
    assert (whites, told) == (Whites(), [])


@pytest.mark.parametrize("as_given", [np.array, Image.fromarray, tiff], ids=["array", "F", "tiff"])
@pytest.mark.parametrize("white", [1, 255])
def test_a_pixel_beyond_white_turns_no_float_black(white, as_given):
    arrays = [(picture / 255 * white).astype(np.float32) for picture in EIGHT_BITS]
    arrays[0][0, :3] = white * 1.004, np.nan, np.inf
    pixels, whites, told = decoded([as_given(array) for array in arrays])
    assert pixels[0][0, 1:3, 0].tolist() == [0, 255]
    expected = EIGHT_BITS[0].copy()
    expected[0, 1:3] = 0, 255
    same_as_eight_bits(pixels, [expected, *EIGHT_BITS[1:]])
    assert (whites, told) == (Whites(floating=white), [])


@pytest.mark.parametrize("kind", ["float", "uint16", "mode I"])
def test_one_picture_alone_is_never_guessed_silently(kind):
    [one, *_] = EIGHT_BITS
    alone = {"float": one / 255, "uint16": of_bits(12)[0], "mode I": Image.fromarray(one.astype(np.int32))}[kind]
    pixels, _, [message] = decoded([alone, alone])
    np.testing.assert_array_equal(pixels[0][..., 0], one)
    assert "X[0] and 1 more hold" in message
    assert "is taken as white" in message


@pytest.mark.parametrize("most", [1, 100, 256, 4095, 16383, 70_000])
def test_mode_i_and_integers_of_a_range_that_could_be_several_are_refused_by_name(most):
    array = np.linspace(0, most, 480).reshape(20, 24).astype(np.int32)
    for given in (array, Image.fromarray(array)):
        reasons = refused([EIGHT_BITS[0], given, given])
        assert list(reasons) == [1, 2]
        assert f"its values go from 0 to {most}, and nothing says which is white: give " in reasons[1]
        assert ".round().astype('uint8')" in reasons[1]
    as_advised = (array / most * 255).round().astype("uint8")
    assert decoded([as_advised])[0][0].max() == 255


def test_negative_integers_and_masks_in_16_bits_are_refused():
    assert "go from -1 to 255, below 0" in refused([EIGHT_BITS[0].astype(int), np.array([[-1, 255]])])[1]
    assert "its values go from 0 to 1, and nothing says" in refused([np.array([[0, 1]], np.uint16)])[0]


def test_floats_of_both_ranges_are_refused_and_one_of_each_named():
    unit, bytes_ = EIGHT_BITS[0] / 255, EIGHT_BITS[1].astype(float)
    black = np.zeros((4, 4))
    reasons = refused([black, unit, EIGHT_BITS[0], unit / 2, bytes_])
    assert reasons == {
        4: "its values are floats up to 130, and those of X[1] and of 1 more go up to 1: give all of them from 0 to 1, "
        "or all of them from 0 to 255"
    }
    assert list(refused([unit, bytes_])) == [0, 1]
    assert "neither 0 to 1 nor 0 to 255" in refused([np.array([[0, 5.0]])])[0]
    assert "neither 0 to 1 nor 0 to 255" in refused([np.array([[-1.0, 1.0]])])[0]


def test_a_dark_one_among_16_bits_is_refused_and_black_ones_are_black():
    dark = np.full((4, 4), 300, np.uint16)
    [reason] = refused([*of_bits(16), dark]).values()
    assert "its values end at 300 of 65535, so that it would be black" in reason
    pixels, whites, told = decoded([np.zeros((4, 4), dtype) for dtype in (np.uint16, int, float)])
    assert (np.max(pixels), whites, told) == (0, Whites(), [])


def test_colours_of_16_bits_of_which_pillow_drops_what_counts_are_to_be_given_as_arrays():
    full = [np.stack([array] * 3, -1) for array in of_bits(16)]
    same_as_eight_bits(decoded([tiff(array) for array in full])[0])
    twelve = [array >> 4 for array in full]
    reasons = refused([tiff(array) for array in twelve])
    assert list(reasons) == [0, 1, 2]
    assert "Pillow keeps the upper eight of its 16 bits" in reasons[0]
    assert (
        "with tifffile.imread(name) or cv2.imread(name, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)[..., ::-1]"
        in reasons[0]
    )
    same_as_eight_bits(decoded([tifffile.imread(io.BytesIO(tiff(array))) for array in twelve])[0])


def test_what_was_decided_before_stays_and_what_exceeds_it_is_named(tmp_path):
    dark = of_bits(12)[2]
    pixels, whites, told = decoded([dark], Whites(uint16=4095))
    np.testing.assert_array_equal(pixels[0][..., 0], EIGHT_BITS[2])
    assert (whites, told) == (Whites(uint16=4095), [])
    path = tmp_path / "a.png"
    path.write_bytes(png(of_bits(16)[0]))
    with pytest.raises(ValueError, match="go up to 65535, above the 4095 that is white"):
        open_image(Scaled(stamped([path])[0], 4095))


def test_the_user_counts_in_his_own_numbers_and_each_kind_is_told_once():
    images = [*of_bits(12), *[picture.astype(int) for picture in EIGHT_BITS]]
    with pytest.warns(UserWarning, match="is taken as white") as told:
        check_headers(images, None, 1, names=EntryNames([3, 5, 7, 11, 13, 17]))
    first, second = (str(each.message) for each in told)
    assert first.startswith("X[3] and 2 more hold 16 bits")
    assert second.startswith("X[11] and 2 more hold integers")


# ------------------------------------------------------------------- the cache


@pytest.mark.filterwarnings("ignore:X")
def test_an_embedding_is_known_by_its_white_too(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, array in zip(paths, of_bits(12), strict=True):
        path.write_bytes(png(array))
    expected = embedded(EIGHT_BITS, None)
    for _ in range(2):
        np.testing.assert_array_equal(embedded(paths, tmp_path / "cache"), expected)
    forget_embeddings()
    darkest = embedded(paths[2:], tmp_path / "cache")  # by itself it is of eight bits or of ten
    assert np.abs(darkest - expected[2:]).max() > 0.01
    np.testing.assert_array_equal(embedded(paths, tmp_path / "cache"), expected)


@pytest.mark.filterwarnings("ignore:X")
def test_files_are_decoded_for_their_range_once_and_always_opened(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, array in zip(paths, of_bits(12), strict=True):
        Path(path).write_bytes(png(array))
        os.utime(path, (1e9, 1e9))
    with mock.patch.object(ImageFile, "is_settled", return_value=True):
        with file_access() as asked:
            check_headers(stamped(paths), tmp_path / "cache", 1)
        assert asked.of(paths) == {(1, 2)}
        embedded(paths, tmp_path / "cache")
        with file_access() as asked:
            check_headers(stamped(paths), tmp_path / "cache", 1)
        assert asked.of(paths) == {(1, 1)}


@pytest.mark.filterwarnings("ignore:X")
def test_files_that_were_known_before_headers_were_asked_for_white_are_opened_again(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, array in zip(paths, of_bits(12), strict=True):
        Path(path).write_bytes(png(array))
    files = stamped(paths)
    assert all(file.stamp.endswith(" white") for file in files)
    before = [(file.location, file.stamp.removesuffix(" white"), digest_of(file.read())) for file in files]
    EmbeddingStore(tmp_path / "cache").remember_files(before)
    np.testing.assert_array_equal(embedded(paths, tmp_path / "cache"), embedded(EIGHT_BITS, None))


def test_thumbnails_are_of_one_white():
    with pytest.warns(UserWarning, match=r"X\[0\] and 1 more hold 16 bits"):
        bright, dark = thumbnails_of(of_bits(12), [0, 2], 24)
    same_as_eight_bits([bright.pixels, dark.pixels], EIGHT_BITS[::2])
    [ambiguous] = thumbnails_of([EIGHT_BITS[0].astype(int) * 5], [0], 24)
    assert "nothing says which is white" in ambiguous.problem


# -------------------------------------------------------------- the estimators


@pytest.fixture
def deep(shades):
    """Grey pictures of eight bits, the same of twelve in sixteen, and labels."""
    grey = [np.ascontiguousarray(image[..., 0]) for image in shades[0]]
    return grey, of_bits(12, grey), shades[1]


@pytest.mark.filterwarnings("ignore:X")
@pytest.mark.parametrize("parameters", [{}, {"image_tower": "finetune", "augment": False}], ids=["frozen", "finetune"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_model_keeps_what_fit_decided(make_classifier, deep, tmp_path, parameters, method):
    grey, twelve, y = deep
    parameters["ranks"] = range(5)
    of_eight = getattr(make_classifier(**parameters), method)(grey, y)
    fitted = getattr(make_classifier(**parameters), method)(twelve, y)
    assert of_eight.white_values_ == {}
    assert fitted.white_values_ == {"uint16": 4095}
    dark = [array // 8 for array in twelve[:2]]  # by themselves they would be of ten bits
    fitted.save(tmp_path / "model")
    for model in (fitted, pickle.loads(pickle.dumps(fitted)), L2RCLIPClassifier.load(tmp_path / "model")):
        assert model.white_values_ == {"uint16": 4095}
        expected = of_eight.predict_proba([(array >> 4).astype(np.uint8) for array in dark])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(model.predict_proba(dark), expected, atol=1e-5)
        with pytest.raises(UnreadableImagesError, match="above the 4095 that is white") as caught:
            model.predict([*dark, np.full((9, 9), 5000, np.uint16)])
        assert list(caught.value.failures) == [2]


@pytest.mark.filterwarnings("ignore:X")
def test_training_goes_on_with_what_was_decided(make_classifier, deep):
    _, twelve, y = deep
    dark = [array // 8 for array in twelve]
    fitted = make_classifier(ranks=range(5)).fit(twelve, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.partial_fit(dark, y).white_values_ == {"uint16": 4095}
        assert fitted.set_params(warm_start=True).fit(dark, y).white_values_ == {"uint16": 4095}
    mixed = [*dark[:20], *[image / 255 for image in deep[0][20:]]]
    assert fitted.fit(mixed, y).white_values_ == {"uint16": 4095, "floating": 1}
    with pytest.raises(UnreadableImagesError, match="above the 4095"):
        fitted.partial_fit([array * 2 for array in twelve], y)
    assert fitted.set_params(warm_start=False).fit(dark, y).white_values_ == {"uint16": 1023}


def test_models_from_before_have_nothing_decided(make_classifier, shades, tmp_path):
    fitted = make_classifier().fit(*shades)
    fitted.save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert "whites" not in description["state"]  # as it was written before there were any
    assert L2RCLIPClassifier.load(tmp_path / "model").white_values_ == {}
    del fitted._state.__dict__["whites"]
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(shades[0]), fitted.predict(shades[0]))


@pytest.mark.filterwarnings("ignore:X")
def test_skipping_and_finding_agree_with_fit(make_classifier, deep, tmp_path):
    _, twelve, y = deep
    cut = tmp_path / "cut.png"
    cut.write_bytes(png(twelve[3])[:-200])
    X = [*twelve[:3], cut, Image.fromarray(np.full((9, 9), 3000, np.int32)), np.full((9, 9), 5.0), *twelve[6:]]
    with pytest.raises(UnreadableImagesError) as caught:
        make_classifier(ranks=range(5)).fit(X, y)
    assert find_unreadable(X) == caught.value.failures
    assert list(caught.value.failures) == [3, 4, 5]
    with pytest.warns(UserWarning, match="taken as white") as told:
        skipped = make_classifier(ranks=range(5), on_bad_image="skip").fit(X, y)
    assert skipped.white_values_ == {"uint16": 4095}
    guesses = [str(each.message) for each in told if "taken as white" in str(each.message)]
    assert [guess[:24] for guess in guesses] == ["X[0] and 36 more hold 16"]
    kept = [i for i in range(40) if i not in (3, 4, 5)]
    without = make_classifier(ranks=range(5)).fit([X[i] for i in kept], y[kept])
    np.testing.assert_allclose(skipped.prototypes_, without.prototypes_, atol=1e-5)
    beyond = [*twelve[3:5], np.full((9, 9), 5000, np.uint16)]
    assert list(find_unreadable(beyond, white_values=skipped.white_values_)) == [2]
    assert find_unreadable(beyond) == {}
    with pytest.raises(InvalidParameterError, match="white_values must be"):
        find_unreadable(beyond, white_values={"uint8": 255})


@pytest.mark.filterwarnings("ignore:X")
def test_each_fold_decides_for_itself(make_classifier, deep):
    grey, twelve, y = deep
    scores = [cross_val_score(make_classifier(ranks=range(5)), X, y, cv=2, error_score="raise") for X in (grey, twelve)]
    np.testing.assert_allclose(*scores)


def test_an_encoder_keeps_what_it_has_seen_and_else_decides_each_time(tiny, deep):
    grey, twelve, _ = deep
    expected = CLIPImageEncoder(tiny, device="cpu").fit().transform(grey)
    with pytest.warns(UserWarning, match=r"X\[0\] and 39 more hold 16 bits.* 4095 is taken as white"):
        fitted = CLIPImageEncoder(tiny, device="cpu").fit(twelve)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(fitted.transform(twelve), expected, atol=1e-5)
        [darkest] = fitted.transform([twelve[0] // 8])
    unseen = CLIPImageEncoder(tiny, device="cpu").fit()
    with pytest.warns(UserWarning, match="4095 is taken as white"):
        np.testing.assert_allclose(unseen.transform(twelve), expected, atol=1e-5)
    with pytest.warns(UserWarning, match=r"X\[0\] holds 16 bits.* 255 is taken as white"):
        assert np.abs(unseen.transform([twelve[0] // 8])[0] - darkest).max() > 1e-3
    with pytest.warns(UserWarning, match="4095 is taken as white"):
        by_generator = CLIPImageEncoder(tiny, device="cpu").fit_transform(image for image in twelve)
    np.testing.assert_allclose(by_generator, expected, atol=1e-5)
    generator = iter(grey)
    assert CLIPImageEncoder(tiny, device="cpu").fit(generator).transform(generator).shape == (40, 24)
    del fitted.white_values_  # as in a pickle from before
    assert fitted.transform(grey[:1]).shape == (1, 24)


def test_a_file_that_became_another_picture_after_its_header_was_read_is_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(EIGHT_BITS[0]))
    images, _ = check_headers(stamped([path]), None, 1)
    path.write_bytes(png(of_bits(12)[0]))
    with pytest.raises(UnreadableImagesError, match="was another picture when its header was read"):
        embed_images(images, toy_encoding(), None, 1)


@pytest.mark.filterwarnings("error:X")
@pytest.mark.parametrize("kind", ["classifier", "search", "pipeline"])
def test_pictures_are_shown_as_the_model_takes_them(make_classifier, tiny, kind):
    pytest.importorskip("matplotlib").use("Agg")
    from skl2rclip.inspection import LargestErrorsDisplay, RankDistributionDisplay, SortedPicturesDisplay

    y = np.arange(12) % 3
    estimator = make_classifier(ranks=range(3))
    if kind == "search":
        estimator = GridSearchCV(estimator, {"pairwise_weight": [0.1]}, cv=2, error_score="raise")
    elif kind == "pipeline":
        estimator = make_pipeline(CLIPImageEncoder(tiny, device="cpu"), LogisticRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(of_bits(12) * 4, y)
    dark = of_bits(12)[2:] * 3
    true = (estimator.predict(dark) + 1) % 3
    for display in (
        LargestErrorsDisplay.from_estimator(estimator, dark, true),
        SortedPicturesDisplay.from_estimator(estimator, dark),
    ):
        same_as_eight_bits(display.thumbnails, EIGHT_BITS[2:] * 3)
    same_as_eight_bits([RankDistributionDisplay.from_estimator(estimator, dark).thumbnail], EIGHT_BITS[2:])
    # pictures beside X may be of another kind, and say themselves
    with pytest.raises(UserWarning, match="1023 is taken"):
        SortedPicturesDisplay.from_estimator(estimator, dark, images=dark)


@pytest.mark.parametrize(
    ("dtype", "of_colours", "of_alpha"),
    [(np.uint16, 16, 257), (np.uint16, 257, 1), (np.float32, 1 / 255, 1), (np.float64, 1, 1 / 255)],
)
def test_colours_and_alpha_of_different_whites_are_refused_and_none_is_black(dtype, of_colours, of_alpha):
    colours = np.stack([EIGHT_BITS[0]] * 3, axis=2).astype(np.float64)
    opaque = np.full((*EIGHT_BITS[0].shape, 1), 255)
    mixed = np.concatenate([colours * of_colours, opaque * of_alpha], axis=2).astype(dtype)
    assert re.fullmatch(
        "its colours go up to .* and its alpha up to .*", find_unreadable([mixed])[0].split(", which")[0]
    )
    for scale in (of_colours, of_alpha):
        same = np.concatenate([colours * scale, opaque * scale], axis=2).astype(dtype)
        assert find_unreadable([same, same[..., :3]]) == {}
    unseen = np.concatenate([colours * of_colours, opaque * 0], axis=2).astype(dtype)
    assert find_unreadable([unseen]) == {}
