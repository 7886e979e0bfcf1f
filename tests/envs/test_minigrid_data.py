"""What the model learns from: shortest ways against a plain search, and windows against the rules."""

from collections import deque

import numpy as np
import pytest
import torch

from ttlib.envs.minigrid_data import LAYOUT, MapWindows, Ways, make_tokenizer, walk
from ttlib.envs.minigrid_maps import generate, images, step


@pytest.fixture(scope="module")
def maps():
    return generate(range(700, 706))


def fewest_actions(cells, pose, opened, goal):
    """A breadth-first search over poses and doors, by the rules of `step` alone."""
    queue, seen = deque([(tuple(pose), tuple(opened), 0)]), set()
    while queue:
        pose, opened, count = queue.popleft()
        if pose[:2] == tuple(goal):
            return count
        for action in range(4):
            after, doors = step(cells[None], np.array([pose]), np.array([opened]), np.array([action]))
            state = tuple(after[0].tolist()), tuple(doors[0].tolist())
            if state not in seen:
                seen.add(state)
                queue.append((*state, count + 1))


def test_the_goal_seeking_agent_takes_as_few_actions_as_a_search_that_knows_the_doors(maps):
    ways, rows = Ways(maps), np.arange(len(maps))
    goals = ways.number[rows, maps.goals[:, 0], maps.goals[:, 1]]
    opened = np.random.default_rng(0).integers(2, size=(len(maps), maps.doors)) == 1
    done = walk(maps, ways, rows, maps.starts.astype(int), opened, goals)
    assert np.array_equal(done.poses[:, -1, :2], maps.goals)
    for row in rows[:3]:
        shortest = fewest_actions(maps.cells[row], maps.starts[row].tolist(), opened[row].tolist(), maps.goals[row])
        assert done.lengths[row] == shortest


@pytest.mark.parametrize("transitions", [2, 3])
def test_a_window_is_what_happens_in_its_map(maps, transitions):
    windows = MapWindows(maps, passes=2, each=12, group=4, random=3, walks=3, transitions=transitions, seed=1)
    assert len(windows) == len(maps) * 2 * 12
    tokens, counted, (seen, rows) = windows.batch(torch.arange(len(windows)))
    assert tokens.shape == counted.shape == (len(windows), LAYOUT.length(transitions))
    assert len(seen) == len(maps) * 2 and torch.equal(rows, torch.arange(len(windows)) // 12)  # twelve windows an image
    assert not counted[:, :2].any() and counted[:, 2:6].all()  # the goal is given, so it is not to be predicted
    opened = windows.doors[:, None] >> np.arange(maps.doors) & 1 == 1
    cells = maps.cells[np.arange(len(opened)) % len(maps)]
    assert np.array_equal(seen.numpy(), images(cells, opened))
    pieces, cells, opened = tokens[:, 2:].unflatten(1, (transitions, 4)).numpy(), cells[rows], opened[rows]
    for t in range(transitions - 1):
        after, opened = step(cells, pieces[:, t, :3], opened, pieces[:, t, 3])
        told = counted[:, 2 + 4 * (t + 1)].numpy()
        assert told.mean() > 0.5 and np.array_equal(after[told], pieces[told, t + 1, :3])


def test_goals_are_where_a_walk_came_to(maps):
    """A window that ends at its goal says so, and asks for nothing behind it."""
    for random in (0, 16):
        windows = MapWindows(maps, passes=3, random=random, seed=2)
        tokens, counted, _ = windows.batch(torch.arange(len(windows)))
        arrived = windows.left == 1
        assert arrived.any() and torch.equal(tokens[arrived, :2], tokens[arrived, 6:8])
        assert counted[arrived, 8].all() and not counted[arrived, 9].any()


def test_without_relabelling_a_random_walk_keeps_the_goal_it_was_meant_for(maps):
    kept, relabelled = (
        MapWindows(maps, passes=4, random=16, relabel=relabel, seed=3).batch(torch.arange(len(maps) * 64))[0]
        for relabel in (False, True)
    )
    assert sorted(kept[:, 2:6].tolist()) == sorted(relabelled[:, 2:6].tolist())  # the same walks
    distance = [(tokens[:, :2] - tokens[:, 2:4]).abs().sum(dim=1).float().mean() for tokens in (kept, relabelled)]
    assert distance[0] > 2 * distance[1]


def test_the_same_seed_gives_the_same_windows(maps):
    first, second, other = (MapWindows(maps, passes=1, each=8, random=2, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.tokens, second.tokens) and np.array_equal(first.doors, second.doors)
    assert not torch.equal(first.tokens, other.tokens)


def test_tokens_are_the_numbers_themselves():
    tokenizer = make_tokenizer()
    values = np.array([[0.0, 24.0, 3.0, 2.0]])
    assert tokenizer.bins.encode(values).tolist() == [[0, 24, 3, 2]]
    assert tokenizer.bins.decode(torch.tensor([[0, 24, 3, 2]])).tolist() == values.tolist()


def test_doors_from_the_ninth_on_are_drawn_as_they_were():
    many = generate(range(3), rooms=10)
    windows = MapWindows(many, passes=1, each=4, group=1, random=0, seed=0)
    rng = np.random.default_rng([0, 0, 0])
    opened = rng.integers(2, size=(len(many), many.doors)) == 1
    assert opened[:, 8:].any()
    assert np.array_equal((windows.doors[:, None] >> np.arange(many.doors)) & 1, opened)
