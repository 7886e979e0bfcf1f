"""Behaviour cloning recovers a policy that is known; its best tenth is the best tenth; a killed run ends the same."""

import numpy as np
import pytest
import torch

from tests.line import Line
from ttlib.baselines import common
from ttlib.baselines.behaviour_cloning import Policy, PolicyController, best_trajectories, train
from ttlib.baselines.common import Settings
from ttlib.evaluation import evaluate
from ttlib.trajectories import Trajectories

QUICK = {"hidden": (32,), "learning_rate": 2e-2, "log_every": 10, "save_every": 20}


def known(observations):
    """A policy: what its mean action (T, 2) is at observations (T, 3) whose sizes differ a thousandfold."""
    x = observations / np.array([1.0, 1000.0, 0.1]) - np.array([0.0, 5.0, 0.0])
    return 0.7 * np.tanh(x @ np.array([[1.0, -0.5], [0.5, 1.0], [-1.0, 0.3]]))


def recorded(steps=4000, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(steps, 3)) * [1.0, 1000.0, 0.1] + [0.0, 5000.0, 0.0]
    actions = known(observations) + noise * rng.normal(size=(steps, 2))
    timeouts = np.arange(1, steps + 1) % 100 == 0
    return Trajectories(observations, actions.clip(-1, 1), rng.normal(size=steps), np.zeros(steps, bool), timeouts)


def test_a_known_policy_is_recovered_with_its_spread():
    data, unseen = recorded(), recorded(500, seed=1).observations
    policy, curve = train(data, Settings(updates=400, **QUICK))
    with torch.no_grad():
        found = policy(torch.tensor(unseen)).numpy()
    error = np.abs(found - known(unseen))
    assert error.mean() < 0.03 and error.mean() < 0.1 * np.abs(known(unseen)).mean()
    np.testing.assert_allclose(policy.log_std.exp().detach(), 0.1, atol=0.01)
    assert curve[-1]["step"] == 400 and curve[-1]["policy"] < curve[0]["policy"] - 1


def test_the_log_likelihood_is_the_normal_distributions():
    policy = Policy(3, 2)
    with torch.no_grad():
        policy.log_std.copy_(torch.tensor([-0.5, 0.3]))
        observations, actions = torch.randn(5, 3), torch.rand(5, 2)
        normal = torch.distributions.Normal(policy(observations), policy.log_std.exp())
        expected = normal.log_prob(actions).sum(dim=-1)
        torch.testing.assert_close(policy.log_likelihood(observations, actions), expected)


def episodes(lengths, rewards):
    return Trajectories.from_episodes(
        [
            {
                "observations": np.full((length, 2), number, dtype=np.float32),
                "actions": np.zeros((length, 1)),
                "rewards": np.full(length, reward),
                "terminal": number % 2 == 0,
            }
            for number, (length, reward) in enumerate(zip(lengths, rewards, strict=True))
        ]
    )


def test_the_best_tenth_are_the_trajectories_with_the_largest_returns():
    lengths = [2 + number % 5 for number in range(20)]
    rewards = [0.1 * ((7 * number) % 20) for number in range(20)]
    rewards[4], rewards[11] = 9.0, 5.0  # returns 54 and 15, the latter in the shorter episode
    data = episodes(lengths, rewards)
    best = best_trajectories(data)
    assert [int(o) for o in best.observations[best.bounds[:, 0], 0]] == [4, 11]
    assert best.lengths.tolist() == [6, 3]
    assert best.terminals[best.bounds[:, 1] - 1].tolist() == [True, False]
    assert len(best_trajectories(episodes([3, 3], [1, 2])).lengths) == 1
    assert set(best_trajectories(data, 0.5).observations[:, 0]) == set(np.argsort(-data.returns)[:10].astype(float))


def test_cloning_the_best_tenth_ignores_the_rest():
    data = recorded(2000)
    good = np.repeat(np.arange(20) % 10 == 3, 100)
    actions = np.where(good[:, None], data.actions, -data.actions)
    mixed = Trajectories(data.observations, actions, good.astype(float), data.terminals, data.timeouts)
    settings = Settings(updates=150, **QUICK)
    errors = []
    for share in (0.1, 1.0):
        policy, _ = train(mixed, settings, share)
        with torch.no_grad():
            errors.append(np.abs(policy(torch.tensor(data.observations)).numpy() - known(data.observations)).mean())
    assert errors[0] < 0.1 and errors[1] > 0.3


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    data, settings = recorded(500), Settings(updates=55, **QUICK)
    whole, curve = train(data, settings)

    class Stop(Exception):
        pass

    def stop(row):
        if row["step"] in (10, 30, 50):
            stopped.add(row["step"])
            raise Stop

    stopped = set()
    for _ in range(3):
        with pytest.raises(Stop):
            train(data, settings, folder=tmp_path, on_log=lambda row: row["step"] in stopped or stop(row))
    resumed, again = train(data, settings, folder=tmp_path)
    assert [row["policy"] for row in again] == [row["policy"] for row in curve]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="other share"):
        train(data, settings, 0.5, tmp_path)


def test_a_policy_is_read_back_and_another_kind_is_refused(tmp_path):
    policy, _ = train(recorded(300), Settings(updates=20, **QUICK))
    common.save_model(tmp_path / "bc.safetensors", policy, {"dataset": "x"})
    read, about = common.load_model(tmp_path / "bc.safetensors", Policy)
    observations = torch.tensor(recorded(300).observations)
    assert torch.equal(read(observations), policy(observations)) and about == {"dataset": "x"}

    class Other:
        kind = "something that was never trained"

    with pytest.raises(ValueError, match="holds a Gaussian policy, but something that was never trained is wanted"):
        common.load_model(tmp_path / "bc.safetensors", Other)


def test_actions_out_of_reach_are_refused():
    data = recorded(300)
    large = Trajectories(data.observations, 3 * data.actions, data.rewards, data.terminals, data.timeouts)
    with pytest.raises(ValueError, match=r"an action of size .*; rescale to \[-1, 1\]"):
        train(large, Settings(updates=1))


def test_a_policy_is_evaluated_in_lock_step():
    policy = Policy(2, 1)
    with torch.no_grad():
        policy.net[-1].weight.zero_()
        policy.net[-1].bias.fill_(np.arctanh(0.5))
    rollouts = evaluate(Line, PolicyController(policy), 3, seed=0, options=[{"place": p} for p in (0.75, -20.0, 0.25)])
    assert rollouts.lengths.tolist() == [1, 12, 2]
    np.testing.assert_allclose(rollouts.returns[[0, 2]], [1.25, 2.0], rtol=1e-5)
    with pytest.raises(ValueError, match="the environment has 2 observation dimensions, the policy 3"):
        evaluate(Line, PolicyController(Policy(3, 1)), 1, seed=0)


def test_other_data_of_the_same_size_are_another_run(tmp_path):
    train(recorded(), Settings(updates=20, **QUICK), folder=tmp_path)
    with pytest.raises(ValueError, match="other data"):
        train(recorded(seed=1), Settings(updates=20, **QUICK), folder=tmp_path)
