import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ttlib.datasets.behaviours import RECIPES
from ttlib.envs.ant_walker import FALLEN, FAR, STAYS, AntWalker, from_the_body, upright


def test_gymnasiums_own_checks_pass():
    check_env(AntWalker(), skip_render_check=True)


def test_it_starts_upright_and_is_sent_in_any_direction():
    env, headings, faces = AntWalker(), [], []
    for seed in range(200):
        observation, _ = env.reset(seed=seed)
        assert np.linalg.norm(observation[26:]) == pytest.approx(1, abs=1e-5)
        assert FAR[0] <= np.linalg.norm(env.waypoint - env.data.qpos[:2]) <= FAR[1]
        assert upright(env.data.qpos[3:7]) > 0.99
        headings.append(np.arctan2(*observation[26:]))
        faces.append(2 * np.arctan2(env.data.qpos[6], env.data.qpos[3]) % (2 * np.pi) - np.pi)
    for angles in (headings, faces):
        assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() > 25


def test_what_it_sees_is_seen_from_its_body():
    env, rng = AntWalker(), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(20):
        pose, velocity = env.body.init_qpos.copy(), rng.normal(size=14)
        pose[3:7] = np.array([1.0, 0, 0, 0]) + 0.4 * rng.normal(size=4)
        pose[3:7] /= np.linalg.norm(pose[3:7])
        pose[7:] += 0.1 * rng.normal(size=8)
        env.body.set_state(pose, velocity)
        env.waypoint = env.data.qpos[:2] + rng.normal(size=2)
        seen, axes = env._observation(), env.data.body("torso").xmat.reshape(3, 3)  # columns: its axes in the world
        ahead = axes[:2, 0] / np.linalg.norm(axes[:2, 0])
        left = np.array([-ahead[1], ahead[0]])
        way = env._direction()
        np.testing.assert_allclose(seen[:1], pose[2:3], atol=1e-5)
        np.testing.assert_allclose(seen[1:4], axes[2], atol=1e-5)
        np.testing.assert_allclose(seen[4:12], pose[7:], atol=1e-5)
        np.testing.assert_allclose(seen[12:14], [velocity[:2] @ ahead, velocity[:2] @ left], atol=1e-5)
        np.testing.assert_allclose(seen[14:26], velocity[2:], atol=1e-5)
        np.testing.assert_allclose(seen[26:], [way @ ahead, way @ left], atol=1e-5)


def test_it_does_not_matter_where_north_is():
    rng = np.random.default_rng(1)
    states, directions = rng.normal(size=(50, 27)), rng.normal(size=(50, 2))
    states[:, 1:5] /= np.linalg.norm(states[:, 1:5], axis=1, keepdims=True)
    angle, turned = 0.7, states.copy()
    w, x, y, z = states[:, 1:5].T  # (cos, 0, 0, sin of half the angle) times the orientation
    c, s = np.cos(angle / 2), np.sin(angle / 2)
    turned[:, 1:5] = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], axis=1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned[:, 13:15] = states[:, 13:15] @ turn
    np.testing.assert_allclose(from_the_body(turned, directions @ turn), from_the_body(states, directions), atol=1e-9)


def test_going_where_it_is_told_pays_and_going_elsewhere_costs():
    env, rewards = AntWalker(), []
    for angle, along in ((0.0, 2.0), (np.pi / 2, 0.0), (np.pi, -2.0)):
        env.reset(seed=3)
        env.body.set_state(env.body.init_qpos.copy(), np.eye(14)[0] * 2.0)  # upright, at 2 m/s along x
        env.waypoint = env.data.qpos[:2] + 4 * np.array([np.cos(angle), np.sin(angle)])
        _, reward, _, _, info = env.step(np.zeros(8))
        assert info["along"] == pytest.approx(along, abs=0.4)
        rewards.append(reward)
    assert rewards[0] > rewards[1] + 2 and rewards[1] > rewards[2]


def test_an_ant_that_falls_is_given_up_at_once():
    env = AntWalker()
    env.reset(seed=0)
    assert not any(env.step(np.zeros(8))[2] for _ in range(30))
    pose = env.body.init_qpos.copy()
    pose[3:7] = 0, 1, 0, 0  # turned over by half a turn about x
    env.body.set_state(pose, np.zeros(14))
    _, reward, terminal, _, info = env.step(np.zeros(8))
    assert (reward, terminal) == (-5.0, True) and info["up"] < FALLEN


def test_waypoints_change_when_they_are_reached_or_too_old():
    env = AntWalker()
    env.reset(seed=1)
    env.waypoint = env.data.qpos[:2] + 0.2
    env.step(np.zeros(8))
    first = env.waypoint.copy()
    assert np.linalg.norm(first - env.data.qpos[:2]) > FAR[0] - 0.5
    env.body.set_state(env.body.init_qpos.copy(), np.zeros(14))
    env.waypoint, kept = np.array([100.0, 0.0]), 0
    while env.waypoint[0] == 100.0:
        env.step(np.zeros(8))
        kept += 1
    assert kept <= STAYS[1]


def test_stable_baselines3_can_make_it_as_its_recipe_says():
    env_util = pytest.importorskip("stable_baselines3.common.env_util")
    recipe = RECIPES["antwalker"]
    env = env_util.make_vec_env(recipe.env_id, 2, seed=0)
    assert env.reset().shape == (2, 28) and env.step(np.zeros((2, 8)))[0].shape == (2, 28)
    assert recipe.kinds == ()  # it makes no data set by itself
    env.close()


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="no render mode 'human'; there is 'rgb_array'"):
        AntWalker(render_mode="human")
