"""Few-shot methods of the field as baselines: what their equations say, and ranks that no image shows."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import norm

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import few_shots
import methods
import report
from folds import folds_of
from peers import clap, lp_plus_plus, prolip, tabpfn, tip_adapter
from peers.words import words_of
from tasks import Part, Task

ON_FEATURES = ("ridge, features", "logistic regression, features")
ON_EMBEDDINGS = ("Tip-Adapter-F", "CLAP", "LP++")
N_RANKS, WIDTH = 5, 128


def part_of(seed, centres, per_rank=8):
    rng = np.random.default_rng(seed)
    target = np.tile(np.arange(N_RANKS), per_rank)
    Z = centres[target] + 0.03 * rng.standard_normal((len(target), WIDTH))
    return Part(None, (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), target)


@pytest.fixture(scope="module")
def task():
    """Five clusters of embeddings, of which the words know nothing."""
    centres = np.random.default_rng(0).standard_normal((N_RANKS, WIDTH))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    parts = [part_of(seed, centres) for seed in range(3)]
    return Task("leaves", tuple("abcde"), "the rank is", *parts)


@pytest.fixture(scope="module")
def pooled(task):
    """The same with states before the projection, which it makes the embeddings of."""
    weight, bias = (tensor.numpy() for tensor in prolip.projection_of(task.backbone))
    inverse = np.linalg.pinv(weight)

    def with_pooled(part):
        states = (3 * part.Z - bias) @ inverse
        Z = states @ weight + bias
        names = [f"pooled__{i}" for i in range(states.shape[1])]
        unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
        return replace(part, Z=unit, features=pd.DataFrame(states, columns=names))

    return replace(task, **{name: with_pooled(getattr(task, name)) for name in ("train", "validation", "test")})


def predicted(name, task, drawn):
    predictor = methods.FEW_SHOTS[name](task, drawn, 0)
    return predictor(methods.inputs_of(predictor, task.test))


# ------------------------------------------------------------ what all of them do


@pytest.mark.parametrize("name", [*ON_EMBEDDINGS, "ProLIP"])
@pytest.mark.parametrize("images", [[4, 0, 4, 4, 4], [1, 0, 1, 1, 0]])
def test_probabilities_are_of_all_ranks_and_right_where_images_tell_them(name, images, task, pooled, monkeypatch):
    monkeypatch.setattr(prolip, "N_STEPS", 60)
    data = pooled if name == "ProLIP" else task
    probabilities = predicted(name, data, data.draw(np.array(images), 0))
    assert probabilities.shape == (len(data.test.target), N_RANKS)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    if max(images) > 1:
        shown = np.isin(data.test.target, np.flatnonzero(images))
        assert (probabilities.argmax(axis=1) == data.test.target)[shown].mean() > 0.9


def test_what_a_task_or_the_installation_lacks_is_left_out(task, pooled, monkeypatch):
    def planned(*tasks):
        return [set(job.methods) for job in few_shots.planned(tasks, 1, [1])]

    monkeypatch.setattr(tabpfn, "find_spec", lambda name: None)
    everything = set(methods.FEW_SHOTS)
    assert planned(task, pooled) == [everything - {"ProLIP", "TabPFN", *ON_FEATURES}, everything - {"TabPFN"}]
    monkeypatch.setattr(tabpfn, "find_spec", lambda name: object())
    assert planned(task) == [everything - {"ProLIP", *ON_FEATURES}]


def test_a_report_has_no_row_of_a_peer_without_fits(task, tmp_path):
    fits = {name: methods.FEW_SHOTS[name] for name in ("ridge", "CLAP")}
    few_shots.cell(few_shots.Job(task, 1, 0, fits), tmp_path, {})
    rows = {name: (name, "median") for name in (*fits, "ProLIP")}
    about = {task.name: few_shots.about(task)}
    [cell] = report.read(tmp_path, about, rows).values()
    assert list(cell) == ["ridge", "CLAP"]
    assert report.read(tmp_path, about, rows | {"CORN": ("CORN", "median")}) == {}


def test_folds_have_each_image_once_and_there_are_none_with_a_single_image():
    target = np.repeat([0, 2, 3], [4, 3, 9])
    folds = folds_of(target, 0)
    assert len(folds) == 3
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(16))
    assert folds_of(np.array([0, 0, 1]), 0) == []


# ------------------------------------------------------------ what the equations say


def test_cache_is_a_sum_over_the_keys():
    rng = np.random.default_rng(0)
    X, keys, values = rng.standard_normal((3, 4)), rng.standard_normal((5, 4)), np.eye(2)[[0, 1, 1, 0, 1]]
    slow = [[sum(np.exp(-2 * (1 - x @ key)) * v[k] for key, v in zip(keys, values, strict=True)) for k in range(2)]
            for x in X]  # fmt: skip
    found = tip_adapter.from_cache(*map(torch.from_numpy, (X, keys, values)), 2.0)
    np.testing.assert_allclose(found, slow)


def test_multipliers_are_the_zero_shot_probabilities_of_the_ranks_own_images(task):
    words, scale = words_of(task)
    drawn = task.draw(np.array([2, 0, 3, 1, 0]), 0)
    Z, target = task.train.Z[drawn], task.train.target[drawn]
    probabilities = softmax(scale * Z @ words.numpy().T, axis=1)
    seen = [np.mean([p[k] for p, y in zip(probabilities, target, strict=True) if y == k]) for k in (0, 2, 3)]
    found = clap.multipliers_of(torch.from_numpy(Z), torch.from_numpy(target), words, scale)
    np.testing.assert_allclose(found[[0, 2, 3]], seen, rtol=1e-5)
    np.testing.assert_allclose(found[[1, 4]], np.mean(seen), rtol=1e-5)


def test_every_cycle_of_lp_plus_plus_lowers_the_loss(task):
    words, _ = words_of(task)
    Z, target = task.train.Z[:10].astype(float), task.train.target[:10]
    losses = [
        -np.log(softmax(Z @ weights.T, axis=1)[np.arange(10), target]).mean()
        for weights in lp_plus_plus.descent(Z, target, words.numpy().astype(float), 50.0, 0.0, 100)
    ]
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < 0.05  # ten images are separable


def test_prolip_refuses_states_that_the_projection_does_not_read(pooled):
    wrong = replace(pooled, train=replace(pooled.train, features=pooled.train.features.iloc[:, ::-1]))
    with pytest.raises(ValueError, match=r"pooled states of leaves.* differ from the embeddings"):
        prolip.prolip(wrong, wrong.draw(1, 0), 0)


def test_prolip_without_a_step_is_zero_shot_clip(pooled, monkeypatch):
    monkeypatch.setattr(prolip, "N_STEPS", 0)
    drawn = pooled.draw(1, 0)
    zero_shot = softmax(words_of(pooled)[1] * pooled.test.Z @ words_of(pooled)[0].numpy().T, axis=1)
    np.testing.assert_allclose(predicted("ProLIP", pooled, drawn), zero_shot, atol=1e-4)


# ------------------------------------------------------------------------ TabPFN


def test_quantiles_of_a_normal_distribution_become_its_probabilities():
    means = np.array([-1.0, 0.2, 2.0, 3.7])
    found = tabpfn.probabilities_of(norm.ppf(tabpfn.LEVELS, means[:, None], 0.8), N_RANKS)
    below = norm.cdf(np.array([-np.inf, 0.5, 1.5, 2.5, 3.5, np.inf]), means[:, None], 0.8)
    np.testing.assert_allclose(found, np.diff(below, axis=1), atol=0.011)


class WithoutWeights:
    def __init__(self, **options):
        pass

    def fit(self, X, y):
        raise OSError("the hub cannot be reached")


def test_what_tabpfn_lacks_is_said(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "tabpfn", None)
    with pytest.raises(ImportError, match="pip install tabpfn"):
        tabpfn.tabpfn(task, task.draw(1, 0), 0)
    monkeypatch.setitem(sys.modules, "tabpfn", types.SimpleNamespace(TabPFNRegressor=WithoutWeights))
    with pytest.raises(RuntimeError, match=r"the hub cannot be reached.*accessing-model-weights"):
        tabpfn.tabpfn(task, task.draw(1, 0), 0)
