"""Graded photographs: the same pictures as the example's, graded by how far they are from the original."""

import doctest

import graded_photographs as example
import numpy as np
import pytest
from PIL import Image

import skl2rclip._graded_photographs
from skl2rclip.datasets import make_graded_photographs


@pytest.mark.parametrize(("place", "name"), [(0, "temple"), (1, "flower")])
def test_pictures_are_those_of_the_example(place, name):
    rng = np.random.default_rng(3)
    expected = [example.degraded_crop(example.photographs()[place], i, rng) for i in range(40)]
    made = make_graded_photographs(40, photograph=name, random_state=3)
    np.testing.assert_array_equal(made.data, np.stack([np.asarray(crop) for crop, _ in expected]))
    assert made.target.tolist() == [grade for _, grade in expected]
    assert made.rank_names == example.GRADES


def test_a_generator_goes_on_where_it_is():
    rng = np.random.default_rng(0)
    first, second = (make_graded_photographs(20, random_state=rng, return_X_y=True) for _ in range(2))
    np.testing.assert_array_equal(first[0], make_graded_photographs(20, random_state=0).data)
    assert (first[0] != second[0]).any()
    np.testing.assert_array_equal(first[1], np.tile(np.arange(5), 4))


def test_better_grades_are_nearer_to_the_original():
    original = Image.fromarray(example.photographs()[0][100:164, 200:264])
    for way in skl2rclip._graded_photographs._WAYS:
        rng = np.random.default_rng(0)
        distance = [np.abs(np.asarray(way(original, grade, rng)).astype(int) - original).mean() for grade in range(5)]
        assert (np.diff(distance) < 0).all()


@pytest.mark.parametrize(
    ("arguments", "said"), [({"n_images": 0}, "n_images must be"), ({"photograph": "cat"}, "photograph must be one of")]
)
def test_what_cannot_be_made_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        make_graded_photographs(**arguments)


def test_examples_of_the_documentation_hold():
    assert doctest.testmod(skl2rclip._graded_photographs).failed == 0
