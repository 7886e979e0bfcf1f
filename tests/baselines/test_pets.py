"""PETS against a linear system whose noise is known."""

import numpy as np
import pytest
import torch

from ttlib.baselines import common, pets
from ttlib.baselines.pets import Ensemble, PetsSettings
from ttlib.trajectories import Trajectories

TURN = np.array([[0.95, 0.2], [-0.2, 0.95]])
PUSH = np.array([[0.0], [0.5]])
NOISE = np.array([0.05, 0.3])


def system(episodes=40, length=100, seed=0):
    """Recorded episodes of s' = TURN s + PUSH a + noise with NOISE's standard deviations."""
    rng = np.random.default_rng(seed)
    recorded = []
    for _ in range(episodes):
        states, actions = [rng.normal(size=2)], rng.uniform(-1, 1, size=(length, 1))
        for action in actions[:-1]:
            states.append(TURN @ states[-1] + PUSH @ action + NOISE * rng.normal(size=2))
        recorded.append({"observations": states, "actions": actions, "rewards": np.zeros(length), "terminal": False})
    return Trajectories.from_episodes(recorded)


def settings(**changes):
    defaults = {"updates": 400, "batch": 256, "hidden": (32,), "members": 3, "learning_rate": 1e-2}
    return PetsSettings(**(defaults | {"log_every": 100, "save_every": 100} | changes))


@pytest.fixture(scope="module")
def data():
    return system()


@pytest.fixture(scope="module")
def learned(data):
    return pets.train(data, settings())[0]


def test_it_learns_the_system_and_its_noise(learned):
    fresh = system(10, seed=1)
    now = pets.consecutive(fresh)
    states, actions = fresh.observations[now], fresh.actions[now]
    expected = states @ TURN.T + actions @ PUSH.T
    np.testing.assert_allclose(
        learned.expect(torch.tensor(states), torch.tensor(actions)), expected, atol=0.12 * np.std(expected)
    )
    draws = 4000
    one, action = torch.tensor([0.5, -0.5]), torch.tensor([0.3])
    drawn = learned.sample(one.expand(3, draws, 2), action.expand(3, draws, 1), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(drawn.std(dim=1).mean(dim=0), NOISE, rtol=0.15)
    np.testing.assert_allclose(drawn.mean(dim=(0, 1)), TURN @ [0.5, -0.5] + PUSH @ [0.3], atol=0.05)
    state, change = pets.r2(learned, states, actions, fresh.observations[now + 1])
    # What the noise leaves to explain.
    following = fresh.observations[now + 1]
    np.testing.assert_allclose(state, 1 - NOISE**2 / following.var(axis=0), atol=0.02)
    np.testing.assert_allclose(change, 1 - NOISE**2 / (following - states).var(axis=0), atol=0.06)


def test_drawn_states_stay_in_the_datas_range(learned, data):
    far = torch.full((3, 5, 2), 1e4)
    drawn = learned.sample(far, torch.zeros(3, 5, 1))
    assert (drawn <= torch.tensor(data.observations.max(axis=0))).all() and torch.isfinite(drawn).all()


def test_no_pair_of_states_crosses_an_episodes_end(data):
    now = pets.consecutive(data)
    assert len(now) == len(data) - len(data.lengths)
    assert not np.isin(data.bounds[:, 1] - 1, now).any()


def test_each_network_has_its_own_bootstrap_and_its_own_weights(learned):
    for weight in learned.weights:
        assert not torch.allclose(weight[0], weight[1])
    states, actions = torch.randn(3, 7, 2), torch.rand(3, 7, 1)
    together = learned(states, actions)
    for member in range(3):
        alone = Ensemble(2, 1, 1, (32,))
        alone.load_state_dict(
            {
                k: v[member : member + 1] if k.startswith(("weights", "biases")) else v
                for k, v in learned.state_dict().items()
            }
        )
        for one, every in zip(alone(states[member : member + 1], actions[member : member + 1]), together, strict=True):
            torch.testing.assert_close(one[0], every[member])


def test_the_log_variance_keeps_inside_of_its_limits():
    torch.manual_seed(0)
    model = Ensemble(2, 1, members=2, hidden=(8,))
    with torch.no_grad():
        for weight in model.weights:
            weight.mul_(300)
    _, _, log_variance = model(torch.randn(2, 500, 2) * 10, torch.randn(2, 500, 1))
    assert log_variance.max() <= 0.5 + 1e-3 and log_variance.min() >= -10 - 1e-3 and np.ptp(log_variance.detach()) > 9


def test_hidden_numbers_are_neither_read_nor_learned(data):
    """With the first dimension always hidden, nothing that it was changes the prediction, and the second is learned."""
    hidden = np.zeros(data.observations.shape, dtype=bool)
    hidden[::2, 0] = True
    model, _ = pets.train(data, settings(updates=20, save_every=20, log_every=20), hidden)
    assert model.hides and all(torch.isfinite(p).all() for p in model.parameters())
    seen = torch.tensor([[0.3, 0.1]])
    unseen = torch.tensor([[torch.nan, 0.1]])
    zero = torch.zeros(1, 1)
    assert torch.isfinite(model.expect(unseen, zero)).all()
    assert not torch.allclose(model.expect(unseen, zero), model.expect(seen, zero))
    at_mean = torch.stack([model.mean[0], torch.tensor(0.1)])[None]
    assert not torch.allclose(model.expect(unseen, zero), model.expect(at_mean, zero))  # it is told what is hidden
    following = torch.full((3, 4, 2), torch.nan)
    following[..., 1] = 0.2
    loss = model.losses(torch.zeros(3, 4, 2), torch.zeros(3, 4, 1), following, settings())["likelihood"]
    loss.backward()
    gradient = model.biases[-1].grad[:, 0]  # of the two changes, then of the two log variances
    assert torch.isfinite(loss) and (gradient[:, [0, 2]] == 0).all() and (gradient[:, [1, 3]] != 0).all()


def test_an_ensemble_is_read_back(tmp_path, learned):
    common.save_model(tmp_path / "pets.safetensors", learned, {})
    read, _ = common.load_model(tmp_path / "pets.safetensors", Ensemble)
    states, actions = torch.randn(5, 2), torch.rand(5, 1)
    assert torch.equal(read.expect(states, actions), learned.expect(states, actions))


def test_half_the_file_predicts_the_same_to_a_hundredth(tmp_path, learned, data):
    files = {half: tmp_path / f"{half}.safetensors" for half in (False, True)}
    for half, file in files.items():
        common.save_model(file, learned, {}, half)
    assert files[True].stat().st_size < 0.7 * files[False].stat().st_size
    read, _ = common.load_model(files[True], Ensemble)
    assert all(parameter.dtype == torch.float32 for parameter in read.parameters())
    seen, acted = (
        torch.tensor(part[:50]).expand(learned.members, -1, -1) for part in (data.observations, data.actions)
    )
    drawn = [model.sample(seen, acted, torch.Generator().manual_seed(0)) for model in (learned, read)]
    torch.testing.assert_close(*drawn, rtol=1e-2, atol=1e-2)


def test_a_killed_run_ends_with_the_same_weights(tmp_path, data):
    quick = settings(updates=30, log_every=5, save_every=10)
    whole, _ = pets.train(data, quick)

    def stop(row):
        if row["step"] == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pets.train(data, quick, folder=tmp_path, on_log=stop)
    resumed, curve = pets.train(data, quick, folder=tmp_path)
    assert [row["step"] for row in curve] == [5, 10, 15, 20, 25, 30]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="another run|other settings"):
        pets.train(data, settings(updates=40), folder=tmp_path)
