"""Regressions on several rows of each image, beside fits without the image."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skl2rclip._ordinal import ridge
from skl2rclip._ordinal.ridge import leave_one_out
from skl2rclip._ordinal.soft_targets import measure
from skl2rclip._ordinal.views import ONE_VIEW, Views

N, WIDTH = 30, 5


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(N, 4, WIDTH)) + rng.normal(size=(N, 1, WIDTH))
    return Z, Z.mean(axis=1) @ rng.normal(size=(WIDTH, 2)) + rng.normal(size=(N, 2))


@pytest.mark.parametrize("views", [Views(4, 4, 1), Views(4, 4, 2), Views(4, 1, 2), Views(4, 3, 4)])
@pytest.mark.parametrize("of_group", [1, 3])
def test_an_image_is_left_out_with_all_its_rows(data, monkeypatch, views, of_group):
    monkeypatch.setattr(ridge, "_ROWS_PER_CHUNK", 40)
    Z, y = data
    weight, blocks = np.linspace(0.5, 2, N), np.arange(N) // of_group
    result = leave_one_out(Z.reshape(-1, WIDTH), y, weight, blocks, views=views)
    for block in range(N // of_group):
        rest = blocks != block
        learned, n = Z[rest][:, : views.n_learned], views.n_learned
        model = Ridge(alpha=result.penalty).fit(
            learned.reshape(-1, WIDTH), np.repeat(y[rest], n, axis=0), np.repeat(weight[rest] / n, n)
        )
        seen = Z[~rest][:, : views.n_predicted]
        expected = model.predict(seen.reshape(-1, WIDTH)).reshape(of_group, -1, 2).mean(axis=1)
        np.testing.assert_allclose(result.predicted[~rest], expected)
    assert result.fitted.shape == (N, 2)


def test_rows_that_are_all_the_same_are_one(data):
    Z, y = data[0][:, 0], data[1]
    weight = np.linspace(0.5, 2, N)
    one = leave_one_out(Z, y, weight, np.arange(N))
    several = leave_one_out(np.repeat(Z, 4, axis=0), y, weight, np.arange(N), views=Views(4, 4, 2))
    np.testing.assert_allclose(several.predicted, one.predicted, rtol=1e-6)
    np.testing.assert_allclose(several.fitted, one.fitted)


def test_what_is_measured_is_the_error_of_the_views_that_predictions_see():
    rng = np.random.default_rng(1)
    target = np.tile(np.arange(5), 12)
    shows = np.zeros((60, 3, 8))
    shows[..., 0] = target[:, None]
    shows[:, 2] += 5 * rng.normal(size=(60, 8))  # a view that shows little
    rows = (shows + 0.3 * rng.normal(size=shows.shape)).astype(np.float32)

    def noise(n_predicted, n_learned):
        views = Views.of(n_learned, n_predicted)
        own = rows[:, : views.n].reshape(-1, 8)
        measured = measure(own, target, np.arange(5.0), np.ones(60), np.arange(60), n_hidden=0, seed=0, views=views)
        assert measured.targets.views == views
        assert measured.targets.around_labels().shape == (60, 5)
        return measured.targets.noise

    assert noise(1, 2) < 0.5
    assert noise(1, 2) < noise(3, 2) > 1


def test_weights_are_shared_and_the_mean_is_of_the_first_rows():
    views = Views.of(2, 3)
    assert views == Views(3, 2, 3)
    np.testing.assert_array_equal(views.weights(np.array([1.0, 4.0])), [0.5, 0.5, 0, 2, 2, 0])
    np.testing.assert_array_equal(views.rows(np.array([0, 2])), [0, 1, 2, 6, 7, 8])
    np.testing.assert_array_equal(Views(3, 1, 2).of_prediction(np.arange(6.0)), [0.5, 3.5])
    np.testing.assert_array_equal(Views(3, 1, 2).of_prediction(np.arange(12.0).reshape(2, 6), axis=1)[1], [6.5, 9.5])
    assert ONE_VIEW.of_prediction(np.arange(3)).tolist() == [0, 1, 2]
