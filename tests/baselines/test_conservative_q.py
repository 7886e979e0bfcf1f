import numpy as np
import pytest
import torch

from ttlib.baselines.cells import KINDS, TILE, CellEncoder, features, pictures
from ttlib.baselines.common import Settings
from ttlib.baselines.conservative_q import ConservativeQ, GreedyController, train
from ttlib.trajectories import Trajectories


def test_losses_are_the_textbook_ones():
    torch.manual_seed(0)
    model = ConservativeQ(2, 3, hidden=(8,), discount=0.9, penalty=0.5)
    with torch.no_grad():
        for parameter in model.target.parameters():
            parameter.normal_()
    now, then = torch.randn(4, 2), torch.randn(4, 2)
    actions, rewards, ends = torch.tensor([0, 2, 1, 1]), torch.randn(4), torch.tensor([0.0, 1.0, 0.0, 0.0])
    losses = model.losses(now, actions, rewards, then, ends)
    errors, gaps = [], []
    for row in range(4):
        values = model.net(now[row])
        chosen = int(model.net(then[row]).argmax())
        goal = rewards[row] if ends[row] else rewards[row] + 0.9 * model.target(then[row])[chosen]
        errors.append((values[actions[row]] - goal) ** 2)
        gaps.append(values.exp().sum().log() - values[actions[row]])
    torch.testing.assert_close(losses["td"], sum(errors) / 4)
    torch.testing.assert_close(losses["conservative"], 0.5 * sum(gaps) / 4)


def test_it_finds_the_way_that_pays_later():
    """Two steps: action 1 first pays nothing but leads to where action 0 pays 1; action 0 first pays 0.2."""
    rng = np.random.default_rng(0)
    actions = rng.integers(2, size=(300, 2))
    data = Trajectories(
        observations=np.eye(3)[np.stack([np.zeros(300, dtype=int), 1 + actions[:, 0]], axis=1).ravel()],
        actions=actions.reshape(-1, 1),
        rewards=np.stack([0.2 * (actions[:, 0] == 0), 1.0 * ((actions[:, 0] == 1) & (actions[:, 1] == 0))], 1).ravel(),
        terminals=np.tile([False, True], 300),
        timeouts=np.zeros(600, dtype=bool),
    )
    settings = Settings(updates=600, batch=64, learning_rate=3e-3, hidden=(16,), log_every=100, save_every=100)
    model, _ = train(data, 2, settings, penalty=0.0)
    assert model.net(torch.eye(3))[0].tolist() == pytest.approx([0.2, 0.99], abs=0.25)
    controller = GreedyController(model, lambda views, step: views)
    controller.reset(1)
    assert controller.act(np.eye(3)[:1]).tolist() == [1]
    assert controller.act(np.eye(3)[2:]).tolist() == [0]


def test_views_become_features_and_pictures():
    views = np.array([[2, 5, 1, 0], [1, 1, 4, 6]], dtype=np.float32)
    found = features(views, [0, 2], longest=3)
    assert found.shape == (2, 4 * KINDS + 3)
    assert found[1].nonzero()[0].tolist() == [1, KINDS + 1, 2 * KINDS + 4, 3 * KINDS + 6, 4 * KINDS + 2]
    drawn = pictures(views).reshape(2, 3, 2 * TILE, 2 * TILE)
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert (drawn[0][:, TILE:, TILE:] == 0).all()  # cell (1, 1) is unseen
    key = drawn[0][:, TILE:, :TILE]  # cell (x 0, y 1)
    assert key[0].max() > key[2].max() + 0.3  # yellow
    ball = drawn[1][:, TILE:, TILE:]
    assert ball[2].max() > ball[0].max() + 0.3  # blue


def test_the_encoder_tells_kinds_and_cells_apart():
    torch.manual_seed(0)
    encoder = CellEncoder(4, 8)
    found = encoder(torch.tensor([[1.0, 2, 1, 1], [2, 1, 1, 1], [1, 2, 1, 1]]))
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
