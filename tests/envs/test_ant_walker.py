import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ttlib.datasets.behaviours import RECIPES
from ttlib.envs.ant_walker import (
    FALLEN,
    FAR,
    STAYS,
    TURNED,
    AntWalker,
    facing,
    from_the_body,
    recounted,
    side_ahead,
    to_the_legs,
    upright,
)


def test_gymnasiums_own_checks_pass():
    check_env(AntWalker(), skip_render_check=True)


def test_it_starts_upright_and_is_sent_in_any_direction():
    env, headings, faces = AntWalker(), [], []
    for seed in range(200):
        observation, _ = env.reset(seed=seed)
        assert np.linalg.norm(observation[26:28]) == pytest.approx(1, abs=1e-5)
        assert FAR[0] <= np.linalg.norm(env.waypoint - env.data.qpos[:2]) <= FAR[1]
        assert upright(env.data.qpos[3:7]) > 0.99
        headings.append(np.arctan2(*env._direction()))
        faces.append(facing(env.data.qpos[3:7]))
    for angles, most in ((headings, np.pi), (faces, TURNED)):
        assert np.histogram(angles, bins=4, range=(-most, most))[0].min() > 25
    assert np.abs(faces).max() <= TURNED + 1e-6


def some_states(rng, count, tilt=0.4):
    """States (count, 27) of ants in the air, tilted and turned at random."""
    states = np.concatenate([[0.75], [1, 0, 0, 0], [0, 1, 0, -1, 0, -1, 0, 1], np.zeros(14)])
    states = states + np.concatenate([[0], tilt * np.ones(4), 0.2 * np.ones(8), np.ones(14)]) * rng.normal(
        size=(count, 27)
    )
    turn = rng.uniform(-np.pi, np.pi, size=count) / 2
    w, x, y, z = states[:, 1:5].T
    c, s = np.cos(turn), np.sin(turn)
    states[:, 1:5] = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], axis=1)
    states[:, 1:5] /= np.linalg.norm(states[:, 1:5], axis=1, keepdims=True)
    return states


def some_directions(rng, count):
    angles = rng.uniform(-np.pi, np.pi, size=count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_what_it_sees_is_seen_from_the_side_that_is_ahead():
    env, rng = AntWalker(), np.random.default_rng(0)
    env.reset(seed=0)
    sides = []
    for state in some_states(rng, 80):
        env.body.set_state(np.concatenate([[0, 0], state[:13]]), state[13:])
        env.waypoint = env.data.qpos[:2] + rng.normal(size=2)
        seen, way, front = env._observation(), env._direction(), facing(state[1:5])
        axes = env.data.body("torso").xmat.reshape(3, 3)  # columns: the torso's axes in the world
        assert front == pytest.approx(np.arctan2(axes[1, 0], axes[0, 0]), abs=1e-6)
        np.testing.assert_allclose(seen[28:], [np.cos(front), -np.sin(front)], atol=1e-5)
        sides.append(side_ahead(state, way))
        # The sides of the torso: its own x axis, its y axis, and the ways opposite to these.
        ahead = (axes[:, 0], axes[:, 1], -axes[:, 0], -axes[:, 1])[sides[-1]]
        left = np.cross(axes[:, 2], ahead)
        spun = axes @ state[16:19]
        np.testing.assert_allclose(seen[:1], state[:1], atol=1e-5)
        np.testing.assert_allclose(seen[1:4], [ahead[2], left[2], axes[2, 2]], atol=1e-5)
        np.testing.assert_allclose(seen[15:18], [spun @ ahead, spun @ left, state[18]], atol=1e-5)
        flat = ahead[:2] / np.linalg.norm(ahead[:2])
        flat_left = np.array([-flat[1], flat[0]])
        np.testing.assert_allclose(seen[12:15], [state[13:15] @ flat, state[13:15] @ flat_left, state[15]], atol=1e-5)
        np.testing.assert_allclose(seen[26:28], [way @ flat, way @ flat_left], atol=1e-5)
        legs = np.roll(state[5:13].reshape(4, 2), -sides[-1], axis=0).reshape(8)
        np.testing.assert_allclose(np.abs(seen[4:12]), np.abs(legs), atol=1e-5)
    assert set(sides) == {0, 1, 2, 3}


def test_an_ant_has_four_sides_alike():
    """MuJoCo itself: an ant whose legs are counted from another side moves as the same ant does."""
    env, rng = AntWalker(), np.random.default_rng(1)
    env.reset(seed=0)

    def end_of(state, motors):
        env.body.set_state(np.concatenate([[0, 0], state[:13]]), state[13:])
        env.data.qacc_warmstart[:] = 0
        for _ in range(8):
            env.body.do_simulation(motors, env.body.frame_skip)
        return env.data.qpos[:2].copy(), np.concatenate([env.data.qpos[2:], env.data.qvel])

    for number, state in enumerate(some_states(rng, 40)):
        side, action = np.array(number % 4), rng.uniform(-1, 1, size=8)
        place, end = end_of(state, to_the_legs(action, side))
        other_place, other_end = end_of(recounted(state, side), action)
        end = recounted(end, side)
        end[1:5] *= np.sign(end[1:5] @ other_end[1:5])  # a quaternion and its opposite are the same orientation
        np.testing.assert_allclose(other_place, place, atol=1e-6)
        np.testing.assert_allclose(other_end, end, atol=1e-6)
        assert np.abs(place).max() > 1e-3


def test_the_direction_lies_within_45_degrees_of_straight_ahead():
    rng = np.random.default_rng(2)
    seen = from_the_body(some_states(rng, 500, tilt=0.0), some_directions(rng, 500))
    assert np.abs(np.arctan2(seen[:, 27], seen[:, 26])).max() <= np.pi / 4 + 1e-6


def test_only_the_direction_of_east_tells_where_north_is():
    rng = np.random.default_rng(1)
    states, directions = some_states(rng, 50), some_directions(rng, 50)
    angle, other = 0.7, states.copy()
    w, x, y, z = states[:, 1:5].T  # (cos, 0, 0, sin of half the angle) times the orientation
    c, s = np.cos(angle / 2), np.sin(angle / 2)
    other[:, 1:5] = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], axis=1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    other[:, 13:15] = states[:, 13:15] @ turn
    before, after = from_the_body(states, directions), from_the_body(other, directions @ turn)
    np.testing.assert_allclose(after[:, :28], before[:, :28], atol=1e-9)
    np.testing.assert_allclose(after[:, 28:], before[:, 28:] @ turn.T, atol=1e-9)


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


def test_facing_elsewhere_than_east_costs():
    env, rewards = AntWalker(), []
    for angle in (0.0, 1.0, -1.0, 2.0):
        env.reset(seed=3)
        pose = env.body.init_qpos.copy()
        pose[3:7] = np.cos(angle / 2), 0, 0, np.sin(angle / 2)
        env.body.set_state(pose, np.zeros(14))
        rewards.append(env.step(np.zeros(8))[1])
    assert rewards[0] - rewards[1] == pytest.approx(0.5, abs=0.15)
    assert rewards[1] == pytest.approx(rewards[2], abs=0.15) and rewards[1] - rewards[3] == pytest.approx(0.5, abs=0.15)


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
    assert env.reset().shape == (2, 30) and env.step(np.zeros((2, 8)))[0].shape == (2, 30)
    assert recipe.kinds == ()  # it makes no data set by itself
    env.close()


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="no render mode 'human'; there is 'rgb_array'"):
        AntWalker(render_mode="human")
