import pytest
import torch

from skl2rclip._modules import RankFormer, sinusoidal_encoding


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
    torch.testing.assert_close(blended, tokens + 0.1 * scale * sinusoidal_encoding(6, 16)[:, None])


def test_without_rank_encoding_the_order_of_the_ranks_means_nothing(tokens):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    blind = awake(RankFormer(16, blend_ratio=0.5, rank_encoding=False))
    torch.testing.assert_close(blind(tokens)[order], blind(tokens[order]))
    sighted = awake(RankFormer(16, blend_ratio=0.5))
    assert not torch.allclose(sighted(tokens)[order], sighted(tokens[order]), atol=1e-2)


def test_attention_runs_across_ranks_at_each_token_position(tokens):
    changed = tokens.clone()
    changed[5, 1] += 1
    difference = lambda module: (module(changed) - module(tokens)).abs().amax(dim=2)  # noqa: E731  (K, n)
    across = difference(awake(RankFormer(16, blend_ratio=0.5, rank_encoding=False)))
    assert (across[:, 1] > 0).all()
    assert (across[:, [0, 2]] == 0).all()
    within = difference(awake(RankFormer(16, blend_ratio=0.5, rank_encoding=False, attend="tokens")))
    assert (within[5] > 0).all()
    assert (within[:5] == 0).all()


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


def test_learned_blend_ratio_gets_a_gradient(tokens):
    module = awake(RankFormer(16, blend_ratio=0.01, learn_blend_ratio=True))
    module(tokens).square().sum().backward()
    assert module.blend_ratio.grad.abs() > 0


def test_without_inner_residuals_only_the_last_branch_is_blended_in(tokens):
    module = RankFormer(16, blend_ratio=0.25, rank_encoding=False, inner_residuals=False)
    block = module.blocks[0]
    normed = block.attention_norm(tokens.transpose(0, 1))
    expected = block.feed_forward(block.attention(normed, normed, normed, need_weights=False)[0]).transpose(0, 1)
    torch.testing.assert_close(module(tokens), 0.75 * tokens + 0.25 * expected)


def test_sinusoidal_encoding_tells_ranks_apart_and_has_mean_square_one_half():
    encoding = sinusoidal_encoding(1000, 64)
    assert encoding.square().mean() == pytest.approx(0.5, abs=1e-5)
    distance = torch.cdist(encoding, encoding) + 10 * torch.eye(1000)
    assert distance.min() > 0.1
