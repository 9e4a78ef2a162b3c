"""Graded photographs: each way and grade in turn, graded by how far they are from the original."""

import doctest

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import skl2rclip.datasets._graded_photographs
from skl2rclip.datasets import make_graded_photographs


@pytest.mark.parametrize("name", ["temple", "flower"])
def test_twenty_in_a_row_show_each_grade_of_each_degradation_once(name, monkeypatch):
    asked = []

    def noted(way):
        return lambda crop, grade, rng: asked.append((way, grade)) or way(crop, grade, rng)

    ways = tuple(noted(way) for way in skl2rclip.datasets._graded_photographs._WAYS)
    monkeypatch.setattr(skl2rclip.datasets._graded_photographs, "_WAYS", ways)
    made = make_graded_photographs(40, photograph=name, random_state=3)
    assert made.data.shape == (40, 64, 64, 3)
    assert len(set(asked[:20])) == 20
    assert asked[:20] == asked[20:]
    assert made.target.tolist() == [grade for _, grade in asked]


def test_a_generator_goes_on_where_it_is():
    rng = np.random.default_rng(0)
    first, second = (make_graded_photographs(20, random_state=rng, return_X_y=True) for _ in range(2))
    np.testing.assert_array_equal(first[0], make_graded_photographs(20, random_state=0).data)
    assert (first[0] != second[0]).any()
    np.testing.assert_array_equal(first[1], np.tile(np.arange(5), 4))


def test_better_grades_are_nearer_to_the_original():
    original = Image.fromarray(load_sample_images().images[0][100:164, 200:264])
    for way in skl2rclip.datasets._graded_photographs._WAYS:
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
    assert doctest.testmod(skl2rclip.datasets._graded_photographs).failed == 0
