import math

import torch

from tests.models import random_model, random_tokens
from ttlib.loss import token_losses
from ttlib.model import TrajectoryTransformer
from ttlib.ordered import order_bins, share_gradients, shares, smooth_bins
from ttlib.tokens import Layout


def ordered_model():
    torch.manual_seed(0)
    model = TrajectoryTransformer(Layout(3, 2, goal=2), 50, 4, layers=1, heads=2, width=32)
    before = model.embedding.weight[-1].clone(), model.head[:, -1].clone()
    order_bins(model)
    return model, before


def test_the_nearer_two_bins_the_more_alike_their_vectors():
    model, _ = ordered_model()
    slots = model.layout.goal + model.layout.transition
    for table in (model.embedding.weight[:-1].view(slots, 50, 32), model.head[:, :-1]):
        near, far = ((table[:, gap:] - table[:, :-gap]).norm(dim=-1).mean(dim=-1) for gap in (1, 10))
        assert (near < 0.5 * far).all()


def test_slots_differ_and_the_stop_token_is_left_alone():
    model, (embedding, heads) = ordered_model()
    rows = model.embedding.weight[:-1].view(-1, 50, 32)
    assert not torch.allclose(rows[0], rows[1], atol=0.01)
    assert torch.equal(model.embedding.weight[-1], embedding)
    assert torch.equal(model.head[:, -1], heads)


def test_vectors_have_the_size_that_was_asked_for():
    model, _ = ordered_model()
    assert 0.03 < model.embedding.weight[:-1].std() < 0.07
    assert 0.03 < model.head[:, :-1].std() < 0.07


def model_with_gradients():
    model = random_model(Layout(2, 1, goal=1), vocabulary=12)
    token_losses(model, random_tokens(model, 3, model.layout.length(2))).sum().backward()
    return model


def test_a_bin_gets_of_a_neighbours_gradient_what_their_distance_says():
    model, reach, bins = model_with_gradients(), 2.0, 12
    before = model.embedding.weight.grad.clone(), model.head.grad.clone()
    largest = max(sum(math.exp(-abs(i - j) / reach) for j in range(bins)) for i in range(bins))
    share_gradients(model, shares(bins, reach))
    slots = model.layout.goal + model.layout.transition
    for i in range(bins):
        weights = [math.exp(-abs(i - j) / reach) / largest for j in range(bins)]
        for slot in range(slots):
            expected = sum(w * before[0][slot * bins + j] for j, w in enumerate(weights))
            torch.testing.assert_close(model.embedding.weight.grad[slot * bins + i], expected)
        for slot in range(model.layout.transition):
            expected = sum(w * before[1][slot, j] for j, w in enumerate(weights))
            torch.testing.assert_close(model.head.grad[slot, i], expected)
    # The stop token is nobody's neighbour.
    assert torch.equal(model.embedding.weight.grad[-1], before[0][-1])
    assert torch.equal(model.head.grad[:, -1], before[1][:, -1])


def test_a_step_along_shared_gradients_goes_down():
    model = model_with_gradients()
    plain = model.embedding.weight.grad.clone(), model.head.grad.clone()
    share_gradients(model, shares(12, 5.0))
    # What a short step against the shared gradient takes off the loss; the last rows are the stop token's.
    assert (plain[0][:-1] * model.embedding.weight.grad[:-1]).sum() > 0
    assert (plain[1][:, :-1] * model.head.grad[:, :-1]).sum() > 0


def test_smoothing_takes_off_noise_and_keeps_what_is_even():
    model = random_model(Layout(2, 1), vocabulary=12)
    with torch.no_grad():
        model.head[0] = 1.5
    stop, roughness = model.embedding.weight[-1].clone(), lambda: model.embedding.weight[:12].diff(dim=0).norm()
    rough = roughness()
    smooth_bins(model, 1.0)
    torch.testing.assert_close(model.head[0], torch.full_like(model.head[0], 1.5))
    assert roughness() < 0.5 * rough
    assert torch.equal(model.embedding.weight[-1], stop)
