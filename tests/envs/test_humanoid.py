"""Humanoid45-v5: gymnasium's Humanoid-v5, seen as positions and velocities only, its actions from -1 to 1."""

import gymnasium
import numpy as np

import ttlib.envs  # noqa: F401  (registers it)


def test_it_is_humanoid_v5_seen_as_45_numbers():
    ours, theirs = gymnasium.make("Humanoid45-v5"), gymnasium.make("Humanoid-v5")
    assert ours.spec.id == "Humanoid45-v5" and ours.spec.max_episode_steps == theirs.spec.max_episode_steps == 1000
    assert ours.observation_space.shape == (45,) and ours.action_space.shape == (17,)
    assert (ours.action_space.low == -1).all() and (ours.action_space.high == 1).all()
    seen, expected = ours.reset(seed=3)[0], theirs.reset(seed=3)[0]
    rng = np.random.default_rng(0)
    for _ in range(2):
        np.testing.assert_allclose(seen, expected[:45], rtol=1e-4, atol=1e-4)
        data = ours.unwrapped.data
        np.testing.assert_array_equal(seen, np.concatenate([data.qpos[2:], data.qvel]))
        action = rng.uniform(-1, 1, 17).astype(np.float32)
        seen, reward, *_ = ours.step(action)
        expected, expected_reward, *_ = theirs.step(np.float32(0.4) * action)
        np.testing.assert_allclose(seen, expected[:45], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(reward, expected_reward, rtol=1e-5)
