import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ttlib.envs  # noqa: F401
from ttlib.envs.ant_maze import RADIUS, REPEAT, AntMaze, PointMaze
from ttlib.envs.mazes import MAPS, point

NAMES = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}


@pytest.mark.parametrize(("body", "numbers", "actions"), [("Ant", 29, 8), ("Point", 4, 2)])
@pytest.mark.parametrize("maze", MAPS)
def test_every_maze_is_registered_with_one_vector_as_observation(body, numbers, actions, maze):
    env = gymnasium.make(f"{body}Maze{NAMES[maze]}-v0")
    observation, info = env.reset(seed=0)
    assert observation.shape == (numbers,) == env.observation_space.shape and env.action_space.shape == (actions,)
    task = env.unwrapped
    assert (task.maze.cell(observation[:2]) == task.maze.start).all()
    np.testing.assert_array_equal(info["goal"], task.maze.center(MAPS[maze][2]).astype(np.float32))
    assert env.spec.max_episode_steps >= 10 * task.maze.distances(task.maze.goal)[task.maze.start]


def test_gymnasiums_own_checks_pass():
    check_env(PointMaze(), skip_render_check=True)


@pytest.mark.parametrize("kind", [AntMaze, PointMaze])
def test_the_reward_is_one_at_the_goal_and_ends_the_episode(kind):
    env = kind()
    goal = env.maze.center(env.maze.goal)
    still = np.zeros(env.action_space.shape)
    for away, expected in ((RADIUS - 0.15, True), (RADIUS + 0.4, False)):
        env.reset(seed=0, options={"start": goal + [away, 0]})
        observation, reward, terminal, truncated, _ = env.step(still)
        assert (reward, terminal, truncated) == (float(expected), expected, False)
        assert expected == (np.linalg.norm(observation[:2] - env.goal) <= RADIUS)


def test_time_limits_truncate_and_are_no_terminals():
    env = gymnasium.make("PointMazeUMaze-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[2:4] for _ in range(env.spec.max_episode_steps)]
    assert ends[-1] == (False, True) and not any(terminal or truncated for terminal, truncated in ends[:-1])


def test_random_goals_are_drawn_anew_in_other_cells_than_the_start():
    env = gymnasium.make("PointMazeMedium-v0", goals="random").unwrapped
    seen = set()
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        start, goal = (tuple(env.maze.cell(place).tolist()) for place in (observation[:2], info["goal"]))
        assert start != goal and env.maze.is_free(start) and env.maze.is_free(goal)
        seen.add((start, goal))
    assert len(seen) > 30
    again, info = env.reset(seed=39)
    np.testing.assert_array_equal(again, observation)


def test_the_ant_moves_as_in_gymnasium_robotics():
    theirs = gymnasium.make("AntMaze_UMaze-v5", continuing_task=False).unwrapped
    ours = AntMaze("umaze")
    seen, _ = theirs.reset(seed=3)
    ours.reset(seed=0)
    ours.body.set_state(theirs.data.qpos.copy(), theirs.data.qvel.copy())
    rng = np.random.default_rng(0)
    for _ in range(40):
        action = rng.uniform(-1, 1, size=8)
        seen, *_ = theirs.step(action)
        observation, *_ = ours.step(action)
        expected = np.concatenate([seen["achieved_goal"], seen["observation"][:27]])
        np.testing.assert_allclose(observation, expected, atol=1e-4)


def test_the_point_moves_as_in_gymnasium_robotics_for_a_few_steps_at_once():
    theirs = gymnasium.make("PointMaze_Medium-v3").unwrapped
    ours = PointMaze("medium")
    theirs.reset(seed=3)
    ours.reset(seed=0)
    ours.body.set_state(theirs.data.qpos.copy(), theirs.data.qvel.copy())
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, size=2)
        for _ in range(REPEAT):
            seen, *_ = theirs.step(action)
        observation, *_ = ours.step(action)
        np.testing.assert_allclose(observation, seen["observation"], atol=1e-5)
    assert isinstance(ours.body, point.PointEnv) and ours.dt == pytest.approx(AntMaze().dt)


def test_a_seed_decides_how_an_episode_begins():
    env = AntMaze()
    first, second, other = (env.reset(seed=seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.05
    env.reset(seed=5)
    assert not np.array_equal(env.reset()[0], first)  # without a seed the generator goes on


def test_d4rls_ant_is_its_own_in_its_own_coordinates():
    if not importlib.util.find_spec("d4rl"):
        pytest.skip("d4rl is not installed")
    env = gymnasium.make("AntMazeLarge-D4RL-v0").unwrapped
    goals = [env.reset(seed=seed)[1]["goal"] for seed in range(20)]
    observation, _ = env.reset(seed=0)
    assert np.abs(observation[:2]).max() <= 0.11 and env.dt == pytest.approx(0.1)
    assert np.min(goals, axis=0) == pytest.approx([32, 24], abs=0.8)
    assert (np.array(goals) >= [32, 24]).all() and (np.array(goals) <= [33.5, 25.5]).all()
    assert np.ptp(goals, axis=0).min() > 0.4  # anew in each episode
    env.step(np.full(8, 0.5))
    assert env.data.ctrl.tolist() == [15.0] * 8


def test_what_makes_no_sense_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="no maze 'huge'"):
        PointMaze("huge")
    with pytest.raises(ValueError, match="no goals 'many'; there are fixed and random"):
        PointMaze(goals="many")
    with pytest.raises(ValueError, match="draw with ttlib.render"):
        PointMaze(render_mode="human")
    env = PointMaze()
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(2))
    for velocity in ((1.0,), (np.nan, 0)):
        with pytest.raises(ValueError, match="a velocity is 2 finite numbers"):
            env.reset(options={"velocity": velocity})
    with pytest.raises(ValueError, match="no option 'cell'"):
        env.reset(options={"cell": (1, 1)})
    with pytest.raises(ValueError, match="the start .* lies in a wall"):
        env.reset(options={"start": (0, 0)})
    env.reset(seed=0)
    for action in (np.zeros(3), np.full(2, np.nan)):
        with pytest.raises(ValueError, match="an action is 2 finite numbers"):
            env.step(action)


def test_a_body_can_be_thrown():
    for name in ("PointMazeUMaze-v0", "AntMazeUMaze-v0"):
        env = gymnasium.make(name).unwrapped
        still, _ = env.reset(seed=3)
        thrown, _ = env.reset(seed=3, options={"velocity": (1.5, -0.5)})
        first = (len(still) + 1) // 2  # of the velocities; an ant's orientation is four numbers and turns with three
        np.testing.assert_allclose(thrown[first : first + 2], [1.5, -0.5])
        np.testing.assert_array_equal(np.delete(thrown, [first, first + 1]), np.delete(still, [first, first + 1]))
        moved = env.step(np.zeros(env.action_space.shape))[0][:2] - thrown[:2]
        assert moved[0] > 0.02 and moved[1] < 0
        env.close()
