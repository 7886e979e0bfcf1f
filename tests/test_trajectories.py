"""Trajectories: what is checked, where episodes lie, rewards-to-go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ttlib.trajectories import Trajectories, drop_short_episodes


def arrays(steps=6, observation=3, action=2, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(steps, observation)),
        "actions": rng.normal(size=(steps, action)),
        "rewards": rng.normal(size=steps),
        "terminals": np.zeros(steps, bool),
        "timeouts": np.zeros(steps, bool),
    }


def slow_to_go(rewards, bounds, discount):
    """R_t straight from its definition."""
    to_go = np.zeros(len(rewards))
    for start, stop in bounds:
        for t in range(start, stop):
            to_go[t] = sum(discount ** (later - t - 1) * rewards[later] for later in range(t + 1, stop))
    return to_go


def test_terminals_and_timeouts_are_kept_apart():
    data = arrays(7)
    data["terminals"][2] = data["timeouts"][4] = True
    trajectories = Trajectories(**data)
    assert trajectories.bounds.tolist() == [[0, 3], [3, 5], [5, 7]]
    assert trajectories.lengths.tolist() == [3, 2, 2]
    assert np.flatnonzero(trajectories.terminals).tolist() == [2]
    assert np.flatnonzero(trajectories.timeouts).tolist() == [4, 6], "an array that just stops ends in a timeout"


def test_a_step_that_is_both_is_a_terminal():
    data = arrays(4)
    data["terminals"][[1, 3]] = data["timeouts"][[1, 3]] = True
    trajectories = Trajectories(**data)
    assert trajectories.terminals.tolist() == [False, True, False, True]
    assert not trajectories.timeouts.any()


def test_returns_are_sums_within_episodes():
    data = arrays(5)
    data["rewards"] = np.array([1, 2, 3, 4, 5.0])
    data["terminals"][1] = True
    assert Trajectories(**data).returns.tolist() == [3, 12]


@settings(deadline=None, max_examples=50)
@given(
    rewards=hnp.arrays(np.float32, st.integers(2, 30), elements=st.floats(-10, 10, width=32)),
    discount=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_rewards_to_go_equal_the_definition(rewards, discount, seed):
    data = arrays(len(rewards))
    data["rewards"] = rewards
    rng = np.random.default_rng(seed)
    ends = np.flatnonzero(rng.random(len(rewards)) < 0.3)
    for end in ends[np.diff(ends, prepend=-1) > 1]:
        if end < len(rewards) - 2:
            data["terminals" if rng.random() < 0.5 else "timeouts"][end] = True
    drop = drop_short_episodes(data | {"timeouts": data["timeouts"]})
    trajectories = Trajectories(**drop)
    expected = slow_to_go(trajectories.rewards.astype(float), trajectories.bounds, discount)
    np.testing.assert_allclose(trajectories.rewards_to_go(discount), expected, rtol=1e-4, atol=1e-3)


def test_rewards_to_go_take_other_rewards():
    data = arrays(4)
    data["terminals"][3] = True
    trajectories = Trajectories(**data)
    assert trajectories.rewards_to_go(1.0, np.array([0, 0, 0, -100.0])).tolist() == [-100, -100, -100, 0]


def test_arrays_are_read_only_and_float32():
    trajectories = Trajectories(**arrays())
    assert trajectories.observations.dtype == np.float32
    with pytest.raises(ValueError):
        trajectories.observations[0] = 1


def test_fingerprint_sees_every_array():
    first = Trajectories(**arrays()).fingerprint()
    assert Trajectories(**arrays()).fingerprint() == first
    for key in arrays():
        changed = arrays()
        changed[key] = changed[key].copy()
        changed[key][2] = True if changed[key].dtype == bool else 9.0
        assert Trajectories(**changed).fingerprint() != first, key


@pytest.mark.parametrize("key", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(key, value):
    data = arrays()
    data[key][4] = value
    with pytest.raises(ValueError, match=rf"{key} holds \d values that are not finite, the first at \(4"):
        Trajectories(**data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observations": np.zeros(6)}, "arrays; here they have the shapes"),
        ({"actions": np.zeros((6, 2, 2))}, "arrays; here they have the shapes"),
        ({"actions": np.zeros((5, 2))}, "actions has the shape"),
        ({"rewards": np.zeros((6, 1))}, "rewards has the shape"),
        ({"terminals": np.zeros(7, bool)}, "terminals has the shape"),
        ({"terminals": np.full(6, 2)}, "other than 0 and 1"),
        ({"timeouts": np.full(6, np.nan)}, "other than 0 and 1"),
    ],
)
def test_wrong_shapes_and_flags_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Trajectories(**(arrays() | change))


def test_empty_and_one_step_episodes_are_refused():
    with pytest.raises(ValueError, match="no step"):
        Trajectories(**arrays(0))
    data = arrays()
    data["terminals"][[2, 3]] = True
    with pytest.raises(ValueError, match="episode 1 .step 3. has a single step"):
        Trajectories(**data)


def test_drop_short_episodes_keeps_the_others_whole():
    data = arrays(8)
    data["timeouts"][[0, 3]] = data["terminals"][4] = True
    kept = drop_short_episodes(data)
    assert np.array_equal(kept["rewards"], data["rewards"][[1, 2, 3, 5, 6, 7]])
    assert Trajectories(**kept).bounds.tolist() == [[0, 3], [3, 6]]


def episode(steps, terminal):
    data = arrays(steps)
    return {key: data[key] for key in ("observations", "actions", "rewards")} | {"terminal": terminal}


def test_from_episodes():
    trajectories = Trajectories.from_episodes([episode(3, True), episode(2, False)], name="x", env_id="Hopper-v5")
    assert trajectories.bounds.tolist() == [[0, 3], [3, 5]]
    assert trajectories.terminals.tolist() == [False, False, True, False, False]
    assert trajectories.timeouts.tolist() == [False, False, False, False, True]
    assert (trajectories.name, trajectories.env_id) == ("x", "Hopper-v5")
    by_step = Trajectories.from_episodes([episode(3, [False, False, True]), episode(2, [False, False])])
    assert by_step.fingerprint() == trajectories.fingerprint()


@pytest.mark.parametrize(
    ("episodes", "words"),
    [
        ([], "no episodes"),
        ([episode(3, True), episode(0, False)], "episode 1 is empty"),
        ([episode(3, [False, True, False])], "goes on after its terminal at step 1"),
        ([episode(3, True), episode(1, True)], "single step"),
    ],
)
def test_from_episodes_refuses(episodes, words):
    with pytest.raises(ValueError, match=words):
        Trajectories.from_episodes(episodes)


def test_the_arrays_that_were_given_stay_their_owners():
    given_arrays = {key: value.astype(np.float32) if value.dtype != bool else value for key, value in arrays().items()}
    data = Trajectories(**given_arrays)
    before = data.fingerprint()
    for value in given_arrays.values():
        value[2] = 1
    assert data.fingerprint() == before
