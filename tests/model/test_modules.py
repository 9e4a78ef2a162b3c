import pytest
import torch

from skl2rclip._model.modules import ImageAdapter, RankFormer, RidgeAdapter, head_count, sinusoidal_encoding


def awake(module):
    """Move the projections that start at zero, so that something passes them."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data = parameter.data + 0.3 * torch.randn_like(parameter)
    return module


@pytest.fixture
def tokens():
    return torch.randn(6, 3, 16, generator=torch.Generator().manual_seed(1))


def test_blend_ratio_of_zero_leaves_the_tokens_as_they_are(tokens):
    assert torch.equal(awake(RankFormer(16, blend_ratio=0.0))(tokens), tokens)


def test_training_starts_at_the_tokens_plus_their_rank_encoding(tokens):
    blended = RankFormer(16, layers=2, blend_ratio=0.1)(tokens)
    scale = (2 * tokens.square().mean()).sqrt()
    torch.testing.assert_close(blended, tokens + 0.1 * scale * sinusoidal_encoding(6, 16, torch.device("cpu"))[:, None])


def test_the_order_of_the_ranks_counts(tokens):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    module = awake(RankFormer(16, blend_ratio=0.5))
    assert not torch.allclose(module(tokens)[order], module(tokens[order]), atol=1e-2)


def test_attention_runs_across_ranks_at_each_token_position(tokens):
    module = awake(RankFormer(16, blend_ratio=0.5))
    module.encoding = lambda rank_tokens, present: torch.zeros(1)  # which looks at the size of all tokens
    changed = tokens.clone()
    changed[5, 1] += 1
    difference = (module(changed) - module(tokens)).abs().amax(dim=2)  # (K, n)
    assert (difference[:, 1] > 0).all()
    assert (difference[:, [0, 2]] == 0).all()


def test_padding_changes_nothing(tokens):
    module = awake(RankFormer(16, blend_ratio=0.5))
    present = torch.ones(6, 3, dtype=torch.bool)
    present[2, 1:] = present[4, 2:] = False
    other = tokens.clone()
    other[~present] = 99.0
    torch.testing.assert_close(module(tokens, present)[present], module(other, present)[present])


@pytest.mark.parametrize("layers", [1, 3])
def test_layers_are_as_many_as_asked_for(layers):
    assert len(RankFormer(16, layers).blocks) == layers


@pytest.mark.parametrize(("width", "heads"), [(512, 8), (96, 8), (20, 5), (7, 7), (11, 1)])
def test_heads_divide_the_width(width, heads):
    assert head_count(width) == heads
    assert RankFormer(width).blocks[0].attention.num_heads == heads


def test_sinusoidal_encoding_tells_ranks_apart_and_has_mean_square_one_half():
    encoding = sinusoidal_encoding(1000, 64, torch.device("cpu"))
    assert encoding.square().mean() == pytest.approx(0.5, abs=1e-5)
    distance = torch.cdist(encoding, encoding) + 10 * torch.eye(1000)
    assert distance.min() > 0.1


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_image_adapter_starts_as_the_identity_and_returns_unit_rows(kind):
    adapter = ImageAdapter(6, kind)
    rows = torch.nn.functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    torch.testing.assert_close(adapter(rows), rows)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    moved = adapter(rows)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(5))
    assert not torch.allclose(moved, rows)
    assert len(list(adapter.parameters())) == {"linear": 2, "mlp": 4}[kind]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_ridge_adapter_is_the_identity_before_it_starts(kind):
    rows = torch.nn.functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    adapter = RidgeAdapter(6, kind)
    torch.testing.assert_close(adapter(rows), rows)
    adapter.mean.fill_(0.3)
    adapter.spread.fill_(2.0)
    assert not torch.allclose(adapter(rows), rows)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_copies_adapt_on_their_own_and_can_be_taken_out(kind):
    rows = torch.nn.functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    adapters = awake(RidgeAdapter(6, kind, n_copies=3))
    adapters.mean.copy_(torch.linspace(0, 1, 6))
    adapted = adapters.all(rows)
    assert adapted.shape == (3, 5, 6)
    torch.testing.assert_close(adapted.norm(dim=2), torch.ones(3, 5))
    for place in range(3):
        torch.testing.assert_close(adapters.copy_of(place)(rows), adapted[place])
    assert not torch.allclose(adapted[0], adapted[1], atol=1e-2)
