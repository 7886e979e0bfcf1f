import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ttlib.envs  # noqa: F401
from ttlib.envs.key_to_door import EMPTY, FORWARD, KEY, LEFT, RIGHT, KeyToDoor, Layouts, Task, Walkers, collect

# The agent faces the key, then a ball, and stands two cells before the door.
STRAIGHT = Layouts(
    starts=np.array([[[1, 1], [4, 1], [7, 1]]]),
    directions=np.zeros((1, 3), dtype=int),
    key=np.array([[2, 1]]),
    balls=np.array([[[5, 1]]]),
    door=np.array([[9, 1]]),
)
TAKE_AND_OPEN = [FORWARD, LEFT, LEFT, LEFT, LEFT, LEFT, FORWARD, LEFT, FORWARD, FORWARD]


def run(env, actions, layout=STRAIGHT):
    observation, _ = env.reset(seed=0, options={"layout": layout})
    steps = [(observation, 0.0, False, False)]
    for action in actions:
        steps.append(env.step(action)[:4])
    return steps


def test_the_door_opens_for_who_took_the_key_and_pays_once():
    steps = run(KeyToDoor(), TAKE_AND_OPEN)
    assert [reward for _, reward, _, _ in steps] == [0.0] * 10 + [1.0]
    assert [done for _, _, done, _ in steps] == [False] * 10 + [True]


def test_without_the_key_the_door_stays_locked_and_time_runs_out():
    steps = run(KeyToDoor(), [LEFT, *TAKE_AND_OPEN[1:], *[LEFT] * 6])
    assert sum(reward for _, reward, _, _ in steps) == 0
    assert [truncated for *_, truncated in steps] == [False] * 16 + [True]
    assert not any(done for _, _, done, _ in steps)


def test_nothing_in_view_tells_whether_the_key_was_taken():
    env = KeyToDoor()
    with_key = run(env, [FORWARD, *[LEFT] * 13])
    without = run(env, [LEFT, LEFT, LEFT, LEFT, *[LEFT] * 10])
    assert (with_key[0][0] == KEY).any()
    assert not (with_key[1][0] == KEY).any()
    for step in range(6, 15):  # the second and the last room
        np.testing.assert_array_equal(with_key[step][0], without[step][0])


@pytest.mark.parametrize("task", [Task(), Task(side=3, steps=(5, 3, 6), balls=2, view=7)])
def test_many_walkers_do_what_the_environment_does(task):
    rng = np.random.default_rng(0)
    layouts = Layouts.draw(task, rng, 40)
    actions = rng.choice([LEFT, RIGHT, FORWARD, FORWARD, FORWARD], size=(40, task.leaving[-1]))
    walkers = Walkers(task, layouts)
    envs, alive = [KeyToDoor(task) for _ in range(40)], np.ones(40, dtype=bool)
    for number, env in enumerate(envs):
        one = Layouts(*(getattr(layouts, name)[number : number + 1] for name in layouts.__dataclass_fields__))
        observation, _ = env.reset(seed=0, options={"layout": one})
        np.testing.assert_array_equal(observation, walkers.observe()[number])
    for step in range(task.leaving[-1]):
        walkers.step(actions[:, step])
        seen = walkers.observe()
        for number in np.flatnonzero(alive):
            observation, reward, done, truncated, _ = envs[number].step(int(actions[number, step]))
            assert bool(reward) == done == walkers.opened[number]
            assert truncated == (step == task.leaving[-1] - 1 and not done)
            if not done:  # through an open door one sees what is behind it, when all is over
                np.testing.assert_array_equal(observation, seen[number])
            alive[number] = not done
    assert walkers.opened.any()
    assert 0 < walkers.has_key.mean() < 1


def test_a_random_walk_opens_the_door_a_few_times_in_a_hundred():
    data = collect(4000, seed=5)
    share = data.returns.mean()
    assert 0.02 < share < 0.045
    assert set(data.lengths[data.returns == 0].tolist()) == {16}
    assert data.terminals.sum() == data.returns.sum() == data.rewards.sum()
    assert (data.observations[data.bounds[:, 0]] != EMPTY).any()


def test_gymnasium_accepts_it_and_wrong_input_is_named():
    check_env(gymnasium.make("KeyToDoor-v0").unwrapped, skip_render_check=True)
    env = KeyToDoor()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="0 .left., 1 .right. or 2 .forward."):
        env.step(3)
    with pytest.raises(ValueError, match="no option 'key'"):
        env.reset(options={"key": (1, 1)})
