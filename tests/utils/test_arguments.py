import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

import skl2rclip
from skl2rclip._utils.arguments import (
    check_integer,
    check_path,
    check_real,
    check_sample_weight,
    check_white_level,
    class_weights_of,
    in_range,
    parse_bytes,
    parse_max_memory,
    seed_from,
    warn_user,
)
from skl2rclip.errors import InvalidParameterError


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [(None, None), (5, 5), (np.int64(7), 7), ("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5KB", 1500), ("10", 10),
     ("3 B", 3), (" 1TB ", 10**12)],
)  # fmt: skip
def test_memory_sizes(text, n_bytes):
    assert parse_max_memory(text) == n_bytes


@pytest.mark.parametrize("text", [0, -5, "", "GB", "2 parsecs", "-1GB", "nan", "inf GB", 2.5, True, [1]])
def test_memory_sizes_that_are_none(text):
    with pytest.raises(InvalidParameterError, match="max_memory must be None, a positive number of bytes"):
        parse_max_memory(text)


def test_bytes_are_named_by_their_parameter():
    assert parse_bytes("max_size", "2 GB") == 2 * 10**9
    with pytest.raises(InvalidParameterError, match="max_size must be a positive number of bytes, or a string such as"):
        parse_bytes("max_size", "much")


@pytest.mark.parametrize(
    ("value", "text"), [(Path("a") / "b.pt", str(Path("a/b.pt"))), ("openai", "openai"), (None, None)]
)
def test_paths_become_strings(value, text):
    assert check_path("pretrained", value) == text


def test_other_things_are_no_paths():
    with pytest.raises(InvalidParameterError, match="pretrained must be a string, a path or None, got 3"):
        check_path("pretrained", 3)


def test_a_warning_names_the_line_of_the_user():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_user("look here")
    assert caught[0].filename == __file__


def test_a_file_beside_the_package_is_the_users_though_its_name_begins_alike():
    beside = str(Path(skl2rclip.__file__).parent) + "_of_mine.py"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile("warn_user('look here')", beside, "exec"), {"__name__": "of_mine", "warn_user": warn_user})
    assert caught[0].filename == beside


def test_errors_are_value_and_type_errors():
    for check in (lambda: check_real("x", 2, 0, 1), lambda: check_integer("n", "3", 0)):
        with pytest.raises(ValueError, match="must be"):
            check()
        with pytest.raises(TypeError, match="must be"):
            check()


def test_integers_beyond_all_floats_are_out_of_range():
    with pytest.raises(InvalidParameterError, match=r"white_level must be in \(0, inf\)"):
        check_white_level(10**400)


def test_numbers_of_numpy_are_numbers():
    check_real("x", np.float32(0.5), 0, 1)
    check_integer("n", np.int32(3), 0)


def test_seeds():
    assert seed_from(5) == seed_from(np.int64(5)) == 5
    assert seed_from(2**32 - 1) < 2**31
    assert seed_from(None) != seed_from(None)
    assert seed_from(np.random.RandomState(0)) == seed_from(np.random.RandomState(0))
    with pytest.raises(InvalidParameterError):
        seed_from(-1)


def test_a_number_weighs_every_image_alike():
    assert check_sample_weight(2, 3).tolist() == [2, 2, 2]
    assert check_sample_weight(None, 2).tolist() == [1, 1]


@pytest.mark.parametrize("class_weight", [None, "balanced", {"a": 2.0, "b": 0.5}, {"b": 3}])
def test_class_weights_equal_scikit_learns(class_weight):
    y = np.array(["a", "b", "b", "b"])
    actual = class_weights_of(class_weight, y, np.unique(y), np.ones(4, bool))
    np.testing.assert_allclose(actual, compute_sample_weight(class_weight, y))


def test_balanced_weights_do_not_count_images_that_are_left_out():
    y = np.array(["a", "b", "b", "b"])
    counted = np.array([True, True, False, False])
    np.testing.assert_allclose(class_weights_of("balanced", y, np.unique(y), counted)[counted], [1, 1])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 2], r"sample_weight.shape == \(2,\), expected \(3,\)"),
        ([[1, 2, 3]], r"sample_weight.shape == \(1, 3\), expected \(3,\)"),
        ([1, -2, 3], "must not be negative, infinite or missing, got -2.0 at index 1"),
        ([1, 2, np.nan], "must not be negative, infinite or missing, got nan at index 2"),
        ([0, 0, 0], "at least one non-zero number"),
        (["a", "b", "c"], "must hold numbers"),
    ],
)
def test_unusable_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        check_sample_weight(weight, 3)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [("even", "must be None, 'balanced' or a dict"), ({"c": 1}, "names 'c', which is not a label"), ({"a": -1}, "'a'")],
)
def test_unusable_class_weights_are_named(class_weight, message):
    with pytest.raises(InvalidParameterError, match=message):
        class_weights_of(class_weight, np.array(["a", "b"]), np.array(["a", "b"]), np.ones(2, bool))


def test_weights_keep_their_ratios_down_to_what_rounding_leaves_of_them():
    weight = np.array([0.0, 1e-3, 1.0, 5.0])
    np.testing.assert_array_equal(in_range(weight), weight)
    for factor in (1e-300, 1e-12, 1e12, 1e300):
        np.testing.assert_allclose(in_range(weight * factor) / in_range(weight * factor).max(), weight / 5)
        assert 1e-30 < in_range(weight * factor).max() < 1e30
    np.testing.assert_allclose(in_range(np.array([0, 1e-12, 1e12])), [0, 1e4, 1e12])
    np.testing.assert_allclose(in_range(np.array([0, 5e-324, 1e308])), [0, 1e-8, 1])
