"""V of places against values that are known, and against a slow way to find expectiles."""

import numpy as np
import pytest
import torch

from ttlib.baselines.common import Transitions
from ttlib.baselines.place_values import PlaceValues
from ttlib.trajectories import Trajectories

DISCOUNT, SIDE, LEAST = 0.9, 0.5, -10.0


def recorded(walks, goals=()):
    """Recordings of `walks` (lists of places); a step that comes to one of `goals` is a terminal and costs nothing."""
    episodes = []
    for walk in walks:
        there = any(np.allclose(walk[-1], goal) for goal in goals)
        seen = np.array(walk if not there else walk[:-1], dtype=np.float32)
        rewards = np.zeros(len(seen), dtype=np.float32)
        rewards[-1] = there
        actions = np.zeros((len(seen), 1), dtype=np.float32)
        episodes.append({"observations": seen, "actions": actions, "rewards": rewards, "terminal": there})
    return Trajectories.from_episodes(episodes)


def fitted(data, shape, n_step, expectile, **settings):
    places = PlaceValues(shape, SIDE, LEAST)
    transitions = Transitions(data, 1.0, -1.0, n_step=n_step, discount=DISCOUNT)
    sweeps = places.fit(transitions, expectile, DISCOUNT, n_step, -1.0, **({"tolerance": 1e-5} | settings))
    assert sweeps < 2000
    return places, transitions


def middle(column, row=0):
    return [(column + 0.5) * SIDE, (row + 0.5) * SIDE]


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_corridor_has_the_values_of_its_shortest_way(n_step):
    """Walks to and fro between six cells, a cell a step: the best recorded from each goes straight to the goal."""
    rng, walks = np.random.default_rng(0), []
    for _ in range(300):
        at, walk = rng.integers(6), []
        while len(walk) < 12 and at < 6:
            walk.append(middle(at))
            at = max(0, at + rng.choice([-1, 1, 1]))
        walks.append([*walk, middle(at)] if at == 6 else walk)
    walks = [walk for walk in walks if len(walk) > 2]
    places, _ = fitted(recorded(walks, [middle(6)]), (1, 6), n_step, 0.9999, caution=0.0)
    steps = 5 - np.arange(6)  # paid with -1 each, before the free one to the goal
    expected = -(1 - DISCOUNT**steps) / (1 - DISCOUNT)
    found = places(torch.tensor([middle(column) for column in range(6)]))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_values_are_expectiles_as_a_slow_search_finds_them():
    """Random walks in a small room: at V of each cell the pull of what is above and of what is below are equal."""
    rng, expectile, caution = np.random.default_rng(1), 0.8, 0.5
    walks = [np.clip(np.cumsum(rng.normal(scale=0.3, size=(20, 2)), axis=0) + 1, 0.0, 1.99) for _ in range(40)]
    data = recorded([walk.tolist() for walk in walks])
    places, transitions = fitted(data, (4, 4), 2, expectile, caution=caution)
    ends = places(transitions.observations[transitions.then, :2]).numpy()
    came_to = transitions.rewards.numpy() + DISCOUNT ** transitions.passed.numpy() * ends
    owners = [tuple((place // SIDE).int().tolist()) for place in transitions.observations[transitions.now, :2]]
    stays = caution * len(owners) / len(set(owners))
    values = places.values.numpy()
    for x, y in set(owners):
        here = np.array([value for value, owner in zip(came_to, owners, strict=True) if owner == (x, y)])
        staying = -1 - DISCOUNT + DISCOUNT**2 * values[y, x]

        def pull(v, here=here, staying=staying):
            weights = np.where(here > v, expectile, 1 - expectile)
            return (weights * (here - v)).sum() + stays * (1 - expectile) * (staying - v)

        low, high = -10.0, 0.0
        for _ in range(60):
            guess = (low + high) / 2
            low, high = (guess, high) if pull(guess) > 0 else (low, guess)
        assert values[y, x] == pytest.approx(low, abs=1e-3)


def test_caution_takes_most_from_where_little_was_recorded():
    crowded, lonely = [[middle(0), middle(1), middle(2)]] * 50, [[middle(0, 2), middle(1, 2), middle(2, 2)]] * 2
    data, values = recorded([*crowded, *lonely], [middle(2), middle(2, 2)]), {}
    for caution in (0.0, 1.0):
        places, _ = fitted(data, (3, 3), 1, 0.9, caution=caution)
        values[caution] = [float(places(torch.tensor(middle(0, row)))) for row in (0, 2)]
    assert values[0.0][0] == pytest.approx(values[0.0][1], abs=1e-3)
    assert values[1.0][1] < values[1.0][0] - 1 and values[1.0][0] > values[0.0][0] - 1


def test_between_middles_the_visited_ones_count():
    places = PlaceValues((2, 3), SIDE, LEAST)
    places.corner.copy_(torch.tensor([1.0, -1.0]))
    places.values.copy_(torch.tensor([[-1.0, -3.0, 0.0], [-5.0, 0.0, 0.0]]))
    places.visited.copy_(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    x, y = 1.0 + SIDE / 2, -1.0 + SIDE / 2
    asked = [[x, y], [x + SIDE / 4, y], [x, y + SIDE / 2], [x + SIDE / 2, y + SIDE / 2], [x + 3 * SIDE, y]]
    # The fourth lies between four middles, three of them visited; the last beyond the table, beside a cell that is not.
    assert places(torch.tensor(asked)).tolist() == pytest.approx([-1.0, -1.5, -3.0, -3.0, LEAST])
    assert places.cells(torch.tensor(asked)).tolist()[:2] == [0, 0]
