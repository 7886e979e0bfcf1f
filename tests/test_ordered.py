import torch

from ttlib.model import TrajectoryTransformer
from ttlib.ordered import order_bins
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
