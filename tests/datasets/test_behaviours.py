"""Behaviours: packed and unpacked, trained, resumed, and acting as stable-baselines3's policy does."""

import numpy as np
import pytest
import torch

from ttlib import checkpoints
from ttlib.datasets.behaviours import RECIPES, train
from ttlib.datasets.policies import Behaviour, pack, unpack


def behaviour(seed):
    generator = torch.Generator().manual_seed(seed)
    weights = [(torch.randn(5, 4, generator=generator), torch.randn(5, generator=generator)) for _ in range(1)]
    weights.append((torch.randn(2, 5, generator=generator), torch.randn(2, generator=generator)))
    return Behaviour(weights, torch.ones(4) * seed, torch.ones(4) * 2, torch.tensor([-1.0, -2.0]), {"steps": seed})


def test_packed_and_unpacked_act_the_same():
    behaviours = [behaviour(seed) for seed in range(3)]
    again = unpack(pack(behaviours), [b.info for b in behaviours])
    observations = np.random.default_rng(0).normal(size=(6, 4))
    for one, other in zip(behaviours, again, strict=True):
        assert one.info == other.info
        first, second = (b.act(observations, np.random.default_rng(1)) for b in (one, other))
        assert np.array_equal(first, second) and first.dtype == np.float32


def test_actions_are_gaussian_about_the_networks_mean():
    policy = behaviour(1)
    (weight0, bias0), (weight1, bias1) = policy.weights
    weight1 *= 0.05
    bias1 *= 0.05
    observations = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    hidden = np.tanh((observations - 1) / 2 @ weight0.numpy().T + bias0.numpy())
    mean = hidden @ weight1.numpy().T + bias1.numpy()
    np.testing.assert_allclose(policy.act(observations, np.random.default_rng(0), noise=0), mean, atol=1e-5)
    policy.log_std = torch.tensor([-3.0, -2.0])
    actions = policy.act(np.repeat(observations, 20_000, axis=0), np.random.default_rng(0))
    np.testing.assert_allclose(actions.mean(axis=0), mean[0], atol=0.01)
    np.testing.assert_allclose(actions.std(axis=0), np.exp([-3, -2]), rtol=0.03)
    policy.log_std = torch.tensor([3.0, 3.0])
    assert np.abs(policy.act(np.repeat(observations, 50, axis=0), np.random.default_rng(0))).max() == 1


def test_an_unknown_behaviour_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no recipe 'fish'; there are .*hopper"):
        train("fish", 0, tmp_path)


def test_trained_snapshots_act_as_the_trained_policy_and_training_resumes(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3")
    recipe = RECIPES["hopper"]
    update = recipe.environments * recipe.rollout
    threads = torch.get_num_threads()
    try:
        first = train("hopper", 0, tmp_path, steps=update, report=lambda line: None)
        state, about = checkpoints.load(tmp_path / "ppo.safetensors")
        assert first[-1].info["steps"] == about["steps"] == update

        # The same network inside stable-baselines3, on observations standardised by hand.
        from gymnasium.spaces import Box

        policy = sb3.common.policies.ActorCriticPolicy(
            Box(-np.inf, np.inf, (11,)), Box(-1, 1, (3,)), lambda _: 0.0, net_arch=list(recipe.hidden)
        )
        policy.load_state_dict(
            {name.removeprefix("model/"): tensor for name, tensor in state.items() if name.startswith("model/")}
        )
        seen = np.random.default_rng(0).normal(size=(20, 11)).astype(np.float32)
        standard = (seen - state["obs_rms/mean"].numpy()) / np.sqrt(state["obs_rms/var"].numpy() + 1e-8)
        expected, _ = policy.predict(np.clip(standard, -10, 10), deterministic=True)
        np.testing.assert_allclose(first[-1].act(seen, np.random.default_rng(0), noise=0), expected, atol=1e-4)

        second = train("hopper", 0, tmp_path, steps=3 * update, report=lambda line: None)
        assert [b.info["steps"] for b in second] == [update, 3 * update]
        assert torch.equal(second[0].weights[0][0], first[0].weights[0][0])
        assert not torch.equal(second[1].weights[0][0], first[0].weights[0][0])
    finally:
        torch.set_num_threads(threads)
