"""Each term against a slow formula in NumPy, and its gradient in float64."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from skl2rclip._training.objective import (
    TERMS,
    Objective,
    Term,
    contrastive_loss,
    distribution_loss,
    ordering_loss,
    text_ordering_loss,
    tightness_loss,
)


def log_softmax(row):
    shifted = row - row.max()
    return shifted - np.log(np.exp(shifted).sum())


def slow_contrastive(logits, target, weight):
    """Images of weight w counted w times, one direction after the other."""
    n, n_ranks = logits.shape
    image_to_text = sum(weight[i] * -log_softmax(logits[i])[target[i]] for i in range(n)) / weight.sum()
    rows = []
    for k in range(n_ranks):
        own = [i for i in range(n) if target[i] == k and weight[i] > 0]
        if not own:
            continue
        denominator = np.log(sum(weight[i] * np.exp(logits[i, k]) for i in range(n)))
        rows.append(sum(weight[i] * (denominator - logits[i, k]) for i in own) / sum(weight[i] for i in own))
    return (image_to_text + np.mean(rows)) / 2


def slow_ordering(z, t, target, values, weight):
    gap = np.array([[abs(values[y] - v) for v in values] for y in target])
    largest = gap[weight > 0].max()
    per_image = [
        np.mean([gap[i, k] / largest * np.linalg.norm(z[i] - t[k]) for k in range(len(t))]) for i in range(len(z))
    ]
    return -np.average(per_image, weights=weight)


def slow_tightness(z, t, target, weight):
    return np.average([np.linalg.norm(z[i] - t[target[i]]) ** 2 for i in range(len(z))], weights=weight)


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=[0, 1, 2])
def case(request):
    """Random unit rows, one rank without an image, uneven rank values, and weights of which some are zero."""
    rng = np.random.default_rng(request.param)
    n, n_ranks = 12, 6
    target = rng.choice([0, 1, 2, 4, 5], n)
    weight = rng.integers(0, 4, n) / 2
    weight[0] = 1
    values = np.cumsum(rng.integers(1, 9, n_ranks)).astype(float)
    return unit(rng, n, 5), unit(rng, n_ranks, 5), target, values * rng.choice([-1, 1]), weight


def tensors(*arrays):
    return [torch.tensor(array) for array in arrays]


def all_losses(z, t, target, values, weight=None):
    return torch.stack(
        [
            contrastive_loss(8 * z @ t.T, target, weight),
            ordering_loss(z, t, target, values, weight),
            tightness_loss(z, t, target, weight),
        ]
    )


def test_losses_equal_the_slow_formulas_with_and_without_weights(case):
    z, t, target, values, weight = case
    for given in (None, weight):
        full = np.ones(len(z)) if given is None else given
        expected = [
            slow_contrastive(8 * z @ t.T, target, full),
            slow_ordering(z, t, target, values, full),
            slow_tightness(z, t, target, full),
        ]
        actual = all_losses(*tensors(z, t, target, values), None if given is None else torch.tensor(given))
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-10)


def test_weight_zero_leaves_an_image_out_and_weight_two_repeats_it(case):
    z, t, target, values, _ = tensors(*case)
    weight = torch.ones(len(z), dtype=torch.float64)
    weight[2], weight[5] = 0, 2
    repeats = torch.repeat_interleave(torch.arange(len(z)), weight.long())
    repeated = all_losses(z[repeats], t, target[repeats], values)
    torch.testing.assert_close(all_losses(z, t, target, values, weight), repeated, rtol=1e-12, atol=1e-12)


def test_common_factor_of_the_weights_adds_a_constant_and_no_gradient(case):
    z, t, target, values, weight = tensors(*case)
    once, tenfold = all_losses(z, t, target, values, weight), all_losses(z, t, target, values, 10 * weight)
    expected = torch.tensor([np.log(10) / 2, 0, 0])  # ten times as many images among which each rank finds its own
    torch.testing.assert_close(tenfold - once, expected, rtol=1e-10, atol=1e-12)


def test_gradients_pass_the_finite_difference_check(case):
    z, t, target, values, weight = tensors(*case)
    z.requires_grad_(), t.requires_grad_()
    for given in (None, weight):
        assert torch.autograd.gradcheck(lambda z, t, w=given: all_losses(z, t, target, values, w), (z, t))


def test_gradients_are_finite_where_an_image_lies_on_a_prototype():
    t = torch.eye(3, requires_grad=True)
    z = torch.eye(3)[[0, 1]].requires_grad_()
    all_losses(z, t, torch.tensor([0, 1]), torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(t.grad).all()


def test_ordering_and_tightness_sum_to_the_ordinal_entropy_of_the_same_inputs():
    rng = np.random.default_rng(0)
    z, t, values = unit(rng, 7, 4), unit(rng, 5, 4), np.arange(1.0, 6.0)
    target = rng.integers(0, 5, 7)
    distance = np.linalg.norm(z[:, None] - t[None], axis=2)
    gap = np.abs(values[target][:, None] - values[None])
    expected = (distance[np.arange(7), target] ** 2).mean() - (gap / gap.max() * distance).mean()
    z, t, target, values = tensors(z, t, target, values)
    actual = ordering_loss(z, t, target, values) + tightness_loss(z, t, target)
    assert float(actual) == pytest.approx(expected, rel=1e-12)


def test_contrastive_loss_of_perfectly_separated_pairs_vanishes():
    logits = 50 * torch.eye(4)
    assert float(contrastive_loss(logits, torch.arange(4))) == pytest.approx(0, abs=1e-12)


def test_ordering_loss_prefers_prototypes_that_lie_in_order():
    values = torch.arange(5.0)
    angle = values / 4 * 2
    line = torch.stack([angle.cos(), angle.sin()], dim=1)
    shuffled = line[[0, 3, 1, 4, 2]]
    target = torch.arange(5)
    assert ordering_loss(line, line, target, values) < ordering_loss(shuffled, shuffled, target, values)
    assert ordering_loss(line, line, target, values) < ordering_loss(line, line.flip(0), target, values)


def test_gradients_are_the_same_every_time():
    """Threads must not decide the order of a sum: two fits with one seed are identical, in other processes too."""
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(4096, 64, generator=generator), dim=1)
    t = torch.nn.functional.normalize(torch.randn(5, 64, generator=generator), dim=1).requires_grad_()
    target = torch.randint(5, (4096,), generator=generator)
    gradients = [torch.autograd.grad(tightness_loss(z, t, target), t)[0] for _ in range(30)]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_a_term_of_weight_zero_does_not_enter_even_where_it_is_infinite():
    values = {"contrastive": 1.0, "ordering": float("inf"), "tightness": 2.0, "text_ordering": -1.0}
    terms = {name: torch.tensor(value) for name, value in values.items()}
    objective = Objective({"contrastive": 1.0, "ordering": 0.0, "tightness": 0.5}, 1.0, torch.arange(3.0))
    assert float(objective.total(terms)) == 2.0


def test_divergence_from_distributions_is_what_scipy_says():
    rng = np.random.default_rng(0)
    logits, q, weight = rng.normal(size=(9, 4)), rng.dirichlet(np.ones(4), 9), rng.uniform(0, 2, 9)
    q[0] = [0, 1, 0, 0]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.average(rel_entr(q, p).sum(1), weights=weight)
    result = distribution_loss(torch.tensor(logits), torch.tensor(q), torch.tensor(weight))
    assert float(result) == pytest.approx(expected)
    assert float(distribution_loss(torch.tensor(p).log(), torch.tensor(p))) == pytest.approx(0, abs=1e-9)


def test_text_ordering_loss_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    t, v = rng.normal(size=(5, 6)), np.array([1.0, 2, 4, 8, 16])
    pairs = [abs(v[k] - v[j]) / 15 * np.linalg.norm(t[k] - t[j]) for k in range(5) for j in range(k)]
    assert float(text_ordering_loss(torch.tensor(t), torch.tensor(v))) == pytest.approx(-np.mean(pairs))


def test_the_text_ordering_term_enters_with_its_weight():
    rng = np.random.default_rng(0)
    Z, T = (torch.nn.functional.normalize(torch.tensor(rng.normal(size=(n, 6))).float(), dim=1) for n in (7, 3))
    target, values = torch.tensor([0, 1, 2, 0, 1, 2, 2]), torch.arange(3.0)
    without, with_it = (
        Objective({"contrastive": 1.0, "ordering": 0.5, "tightness": 0.5, "text_ordering": weight}, 10.0, values)
        for weight in (0.0, 0.3)
    )
    assert without.terms(Z, T, target, None)["text_ordering"] == 0
    terms = with_it.terms(Z, T, target, None)
    assert float(terms["text_ordering"]) == pytest.approx(float(text_ordering_loss(T, values)))
    difference = with_it.total(terms) - without.total(without.terms(Z, T, target, None))
    assert float(difference) == pytest.approx(0.3 * float(terms["text_ordering"]), abs=1e-6)


def test_terms_of_several_embeddings_are_those_of_each():
    generator = torch.Generator().manual_seed(0)
    Z = torch.nn.functional.normalize(torch.randn(2, 3, 7, 6, generator=generator), dim=-1)
    T = torch.nn.functional.normalize(torch.randn(4, 6, generator=generator), dim=-1)
    q = torch.rand(2, 3, 7, 4, generator=generator).softmax(dim=-1)
    weight, target = torch.rand(2, 3, 7, generator=generator), torch.tensor([0, 1, 2, 3, 1, 2, 2])
    objective = Objective({"contrastive": 1.0, "tightness": 0.5, "text_ordering": 0.3}, 10.0, torch.arange(4.0))
    terms = objective.terms(Z, T, target, weight, q)
    for place in np.ndindex(2, 3):
        alone = objective.terms(Z[place], T, target, weight[place], q[place])
        torch.testing.assert_close({name: term[place] for name, term in terms.items()}, alone)
        torch.testing.assert_close(objective.total(terms)[place], objective.total(alone))


def test_an_entry_in_the_table_makes_a_term(make_classifier, shades, monkeypatch):
    """Its parameter weighs it, it is learned by, and it has a column in the history."""
    weights = {"rank_targets": "hard", "pairwise_weight": 0.5, "tightness_weight": 0.1}
    plain = make_classifier(**weights).fit(*shades)
    size = Term("pairwise_weight", lambda inputs: inputs.logits.square().mean(dim=(-2, -1)))
    monkeypatch.setitem(TERMS, "size", size)
    classifier = make_classifier(**weights).fit(*shades)
    for entry in classifier.history_:
        parts = entry["contrastive"] + 0.5 * (entry["ordering"] + entry["size"]) + 0.1 * entry["tightness"]
        assert entry["loss"] == pytest.approx(parts, rel=1e-5)
    assert np.abs(classifier.prototypes_ - plain.prototypes_).max() > 1e-4
