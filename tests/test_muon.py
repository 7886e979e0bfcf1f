import pytest
import torch

from ttlib import checkpoints
from ttlib.muon import Muon, orthogonalise
from ttlib.settings import Settings


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_orthogonalising_keeps_directions_and_levels_their_lengths(shape):
    torch.manual_seed(0)
    rank = min(shape)
    left, right = torch.linalg.qr(torch.randn(shape[0], rank))[0], torch.linalg.qr(torch.randn(shape[1], rank))[0]
    lengths = torch.logspace(0, -2, rank)
    found = orthogonalise(left @ lengths.diag() @ right.T)
    inner = left.T @ found @ right
    assert (inner.diag() > 0.6).all() and (inner.diag() < 1.3).all()
    torch.testing.assert_close(inner, inner.diag().diag(), atol=1e-4, rtol=0)
    torch.testing.assert_close(left @ inner @ right.T, found, atol=1e-4, rtol=0)  # nothing beside these directions


def test_a_first_step_goes_equally_far_in_all_directions():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 8))
    before, gradient = weight.detach().clone(), torch.randn(8, 8) @ torch.logspace(0, -2, 8).diag()
    weight.grad = gradient.clone()
    Muon([{"params": [weight], "orthogonal": True}], lr=0.1, weight_decay=0.5).step()
    moved = before * (1 - 0.1 * 0.5) - weight.detach()
    lengths = torch.linalg.svdvals(moved)
    assert lengths.min() > 0.06 and lengths.max() < 0.13
    assert (moved * gradient).sum() > 0  # downhill


def test_other_groups_take_the_steps_of_adamw():
    torch.manual_seed(0)
    ours, theirs, matrix = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(3))
    muon = Muon([{"params": [matrix], "orthogonal": True}, {"params": [ours]}], lr=0.01)
    adamw = torch.optim.AdamW([theirs], lr=0.01)
    for _ in range(5):
        gradient = torch.randn(4, 3)
        for weight in (ours, theirs, matrix):
            weight.grad = gradient.clone()
        muon.step()
        adamw.step()
    assert torch.equal(ours, theirs)
    assert not torch.allclose(matrix, theirs)


def test_a_restored_optimizer_goes_on_in_step():
    def step(model, optimizer, number):
        torch.manual_seed(number)
        model(torch.randn(16, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def build(seed):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 2))
        matrices = [weight for weight in model.parameters() if weight.ndim == 2]
        rest = [weight for weight in model.parameters() if weight.ndim == 1]
        return model, Muon([{"params": matrices, "orthogonal": True}, {"params": rest}], lr=0.01, fused=True)

    whole, its = build(0)
    for number in range(3):
        step(whole, its, number)
    kept = {name: tensor.clone() for name, tensor in checkpoints.run_tensors(whole, its).items()}
    resumed, other = build(1)
    checkpoints.restore_run(kept, resumed, other)
    for number in range(3, 6):
        step(whole, its, number)
        step(resumed, other, number)
    for one, another in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, another)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="adamw and muon"):
        Settings(optimizer="sgd")
