"""Tokens: layouts, the tokenizer, and windows against an independent slow construction."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttlib.tokens import Layout, Tokenizer, TokenWindows
from ttlib.trajectories import Trajectories

property_test = settings(deadline=None, max_examples=60)


def make(lengths, terminal, observation=3, action=2, seed=0):
    rng = np.random.default_rng(seed)
    episodes = [
        {
            "observations": rng.normal(size=(length, observation)),
            "actions": rng.normal(size=(length, action)),
            "rewards": rng.normal(size=length),
            "terminal": bool(ends),
        }
        for length, ends in zip(lengths, terminal, strict=True)
    ]
    return Trajectories.from_episodes(episodes)


EPISODES = st.lists(st.tuples(st.integers(2, 9), st.booleans()), min_size=1, max_size=5)


def slow_window(tokenizer, trajectories, start, transitions, goals=None):
    """The tokens and the counted flags of one window, one token after the other."""
    layout, stop = tokenizer.layout, tokenizer.bins.size
    episode = next(k for k, (first, last) in enumerate(trajectories.bounds) if first <= start < last)
    first, last = trajectories.bounds[episode]
    tokens, counted = [], []
    if layout.goal:
        goal = trajectories.observations[last - 1][: layout.goal] if goals is None else goals[episode]
        for dim in range(layout.goal):
            tokens.append(int(tokenizer.bins.encode(goal[dim : dim + 1], slice(dim, dim + 1))))
            counted.append(False)
    for t in range(start, start + transitions):
        if t < last:
            step = [*trajectories.observations[t], *trajectories.actions[t]]
            if layout.values:
                rewards = trajectories.rewards[first:last].astype(float).copy()
                if tokenizer.terminal_reward is not None and trajectories.terminals[last - 1]:
                    rewards[-1] = tokenizer.terminal_reward
                later = rewards[t - first + 1 :]
                to_go = (later * tokenizer.discount ** np.arange(len(later))).sum()
                step += [rewards[t - first], to_go]
            for dim, value in enumerate(step):
                tokens.append(int(tokenizer.bins.encode(np.float32([value]), slice(dim, dim + 1))))
                counted.append(True)
        else:
            tokens += [stop] * layout.transition
            counted += [bool(trajectories.terminals[last - 1])] * layout.transition
    return tokens, counted


@property_test
@given(
    episodes=EPISODES,
    values=st.booleans(),
    goal=st.integers(0, 3),
    transitions=st.integers(1, 6),
    terminal_reward=st.sampled_from([None, -100.0]),
    method=st.sampled_from(["uniform", "quantile"]),
    seed=st.integers(0, 99),
)
def test_windows_equal_the_slow_construction(episodes, values, goal, transitions, terminal_reward, method, seed):
    trajectories = make(*zip(*episodes, strict=True), seed=seed)
    # Few bins, so that rounding in the reward-to-go rarely lies on an edge: exact edges are data values.
    tokenizer = Tokenizer.fit(trajectories, 5, method, values, goal, terminal_reward=terminal_reward)
    windows = TokenWindows(tokenizer, trajectories, transitions)
    assert len(windows) == len(trajectories)
    tokens, counted = windows.batch(np.arange(len(trajectories)))
    assert tokens.shape == counted.shape == (len(trajectories), tokenizer.layout.length(transitions))
    value_slots = torch.tensor([tokenizer.layout.is_value(position) for position in range(tokens.shape[1])])
    for start in range(len(trajectories)):
        slow, slow_counted = slow_window(tokenizer, trajectories, start, transitions)
        slow = torch.tensor(slow)
        assert torch.equal(tokens[start][~value_slots], slow[~value_slots])
        assert counted[start].tolist() == slow_counted
        off = (tokens[start] - slow).abs()[value_slots]
        assert (off <= 1).all(), "a reward-to-go on an edge may round to its neighbour, no further"


def test_stop_tokens_count_after_a_terminal_and_not_after_a_timeout():
    trajectories = make([3, 3], [True, False])
    tokenizer = Tokenizer.fit(trajectories, 5)
    tokens, counted = TokenWindows(tokenizer, trajectories, 3).batch([1, 4])
    size = tokenizer.layout.transition
    assert (tokens[:, 2 * size :] == tokenizer.stop).all() and (tokens[:, : 2 * size] < tokenizer.stop).all()
    assert counted[0].all()
    assert counted[1, : 2 * size].all() and not counted[1, 2 * size :].any()


def test_rewards_to_go_shortly_before_a_timeout_are_not_counted():
    trajectories = make([3, 5], [True, False])
    tokenizer = Tokenizer.fit(trajectories, 5, goal=1)
    _, every = TokenWindows(tokenizer, trajectories, 3).batch(np.arange(8))
    _, counted = TokenWindows(tokenizer, trajectories, 3, timeout_margin=2).batch(np.arange(8))
    left_out = torch.nonzero(every & ~counted).tolist()
    size, value = tokenizer.layout.transition, 1 + tokenizer.layout.value_slot
    # The second episode begins at step 3, and its last two steps are 6 and 7.
    seen = [(start, step) for start in range(8) for step in (6, 7) if max(3, step - 2) <= start <= step]
    assert left_out == [[start, value + (step - start) * size] for start, step in seen]
    assert not (counted & ~every).any()


def test_a_margin_before_timeouts_needs_something_to_leave_out_and_something_to_keep():
    with pytest.raises(ValueError, match="smaller margin"):
        TokenWindows(Tokenizer.fit(make([3, 4], [False, False]), 5), make([3, 4], [False, False]), 3, timeout_margin=4)
    data = make([3, 4], [True, False])
    with pytest.raises(ValueError, match="below 0"):
        TokenWindows(Tokenizer.fit(data, 5), data, 3, timeout_margin=-1)
    with pytest.raises(ValueError, match="have none"):
        TokenWindows(Tokenizer.fit(data, 5, values=False), data, 3, timeout_margin=1)


def test_further_windows_begin_where_episodes_do():
    trajectories = make([3, 5], [True, False])
    tokenizer = Tokenizer.fit(trajectories, 5)
    plain, more = TokenWindows(tokenizer, trajectories, 4), TokenWindows(tokenizer, trajectories, 4, beginnings=3)
    assert (len(plain), len(more)) == (8, 8 + 2 * 3)
    every = [torch.cat(parts) for parts in zip(plain.batch(np.arange(8)), *[plain.batch([0, 3])] * 3, strict=True)]
    for found, wanted in zip(more.batch(np.arange(14)), every, strict=True):
        assert torch.equal(found, wanted)


def test_no_window_crosses_an_episode():
    """The second episode's values are far from the first's, so that one of them would be seen."""
    first, second = make([4], [False]), make([4], [False])
    data = {
        key: np.concatenate([getattr(first, key), getattr(second, key) + 100])
        for key in ("observations", "actions", "rewards")
    }
    flags = {"terminals": np.zeros(8, bool), "timeouts": np.isin(np.arange(8), [3, 7])}
    trajectories = Trajectories(**data, **flags)
    tokenizer = Tokenizer.fit(trajectories, 2, "uniform", values=False)
    tokens, _ = TokenWindows(tokenizer, trajectories, 4).batch(np.arange(8))
    assert ((tokens[:4] == 0) | (tokens[:4] == tokenizer.stop)).all()
    assert ((tokens[4:] == 1) | (tokens[4:] == tokenizer.stop)).all()


def test_goals_come_first_and_may_be_given():
    trajectories = make([4, 5], [False, False])
    tokenizer = Tokenizer.fit(trajectories, 50, values=False, goal=2)
    last = trajectories.observations[[3, 8], :2]
    starts = np.array([0, 2, 4, 8])
    tokens, counted = TokenWindows(tokenizer, trajectories, 2).batch(starts)
    expected = tokenizer.bins.encode(last, slice(0, 2))[[0, 0, 1, 1]]
    assert torch.equal(tokens[:, :2], expected) and not counted[:, :2].any()
    goals = np.zeros((2, 2), np.float32)
    given_goals, _ = TokenWindows(tokenizer, trajectories, 2, goals=goals).batch(starts)
    assert torch.equal(given_goals[:, :2], tokenizer.bins.encode(goals, slice(0, 2))[[0, 0, 1, 1]])
    assert torch.equal(given_goals[:, 2:], tokens[:, 2:])


def test_a_terminal_reward_replaces_the_last_reward_only_after_a_terminal():
    trajectories = make([3, 3], [True, False])
    columns = Tokenizer.fit(trajectories, 5, terminal_reward=-100.0).columns(trajectories)
    reward, to_go = columns[:, 5], columns[:, 6]
    assert reward[2] == -100 and np.array_equal(np.delete(reward, 2), np.delete(trajectories.rewards, 2))
    assert to_go[1] == -100 and to_go[2] == 0 and to_go[4] == trajectories.rewards[5]


def test_layout_slots():
    layout = Layout(observation=11, action=3, goal=2)
    assert (layout.transition, layout.reward, layout.value_slot) == (16, 14, 15)
    assert (layout.observations, layout.actions) == (slice(0, 11), slice(11, 14))
    assert layout.length(10) == 162
    assert [position for position in range(40) if layout.is_value(position)] == [17, 33]
    plain = Layout(observation=2, action=2, values=False)
    assert (plain.transition, plain.value_slot) == (4, None) and not any(
        plain.is_value(position) for position in range(20)
    )


@pytest.mark.parametrize("values", [True, False])
def test_described_and_restored(values):
    trajectories = make([5, 4], [True, False])
    tokenizer = Tokenizer.fit(trajectories, 7, "uniform", values, goal=1, discount=0.9, terminal_reward=-5.0)
    again = Tokenizer.restore(tokenizer.bins.edges, tokenizer.describe())
    assert again.describe() == tokenizer.describe() and again.layout == tokenizer.layout
    assert torch.equal(again.encode(trajectories), tokenizer.encode(trajectories))


def test_other_dimensions_are_refused():
    tokenizer = Tokenizer.fit(make([4], [True]), 5)
    with pytest.raises(ValueError, match="3 observation and 2 action dimensions, the data has 4 and 2"):
        tokenizer.encode(make([4], [True], observation=4))
    with pytest.raises(ValueError, match="the data has 3 and 1"):
        TokenWindows(tokenizer, make([4], [True], action=1))
