"""Episodes of a maze's task: where they begin and end, who solved it, what they cover."""

import numpy as np
import pytest

from ttlib.datasets.maze_episodes import coverage, relabel, solved
from ttlib.envs.mazes import Maze
from ttlib.trajectories import Trajectories


def moving(*places):
    """A walk through places on the line y = 0, one a step; the last one is seen after the last action."""
    observations = np.array([[x, 0.0, 0.0, 0.0] for x in places], dtype=np.float32)
    return {"observations": observations, "actions": np.ones((len(places) - 1, 2), dtype=np.float32)}


def test_relabelling_ends_an_episode_where_it_reaches_the_goal():
    goal, radius = np.array([5.0, 0.0]), 0.5
    walks = [
        moving(0, 1, 2),  # never there
        moving(2, 3, 4.4, 4.6, 5, 6, 7, 8),  # there after the third step; goes on from 6
        moving(5, 5.1, 7, 8, 4.8),  # begins there, leaves, comes back
        moving(5, 5, 5),  # stays there
        moving(3, 4, 5),
    ]
    episodes = relabel(walks, goal, radius)
    found = [(e["observations"][:, 0].tolist(), e["rewards"].tolist(), e["terminal"]) for e in episodes]
    assert found == [
        ([0, 1], [0, 0], False),
        (pytest.approx([2, 3, 4.4]), [0, 0, 1], True),
        ([6, 7], [0, 0], False),
        ([7, 8], [0, 1], True),
        ([3, 4], [0, 1], True),
    ]
    for episode in episodes:
        assert len(episode["actions"]) == len(episode["rewards"])
    assert relabel([moving(4, 5)], goal, radius) == []  # a single step is no trajectory


def test_who_solved_the_task_is_seen():
    maze = Maze.named("umaze", 1)
    start, corner, goal = (maze.center(cell) for cell in (maze.start, (1, 3), maze.goal))
    walks = []
    for places in ((start, corner, goal), (corner, corner + 0.1, goal), (start, corner, corner)):
        seen = np.array([[*place, 0, 0] for place in places], dtype=np.float32)
        walks.append({"observations": seen, "actions": np.zeros((2, 2), dtype=np.float32)})
    data = Trajectories.from_episodes(relabel(walks, goal))
    assert data.terminals.sum() == 2 and solved(data, maze).tolist() == [True, False, False]
    counts = coverage(data, maze)
    assert counts[maze.start] == 2 and counts[1, 3] == 4 and counts[maze.goal] == 0
