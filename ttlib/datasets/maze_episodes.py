"""Episodes of the tested task, from walks through a maze that were after something else, and what there is of them."""

import numpy as np

from ttlib.envs.ant_maze import RADIUS


def relabel(walks, goal, radius=RADIUS):
    """Episodes of the task to reach `goal` (2,), from walks that were after something else.

    An episode ends where it comes within `radius`, with reward 1 and as a terminal; all other rewards are 0.
    What the walk does once it has left the goal again is another episode. One of a single step is left out.

    Returns:
        List of episodes for `Trajectories.from_episodes`.
    """
    episodes = []
    for one in walks:
        near = np.linalg.norm(one["observations"][:, :2] - goal, axis=1) <= radius
        begin, stop = 0, len(one["actions"])
        while begin < stop:
            outside = np.flatnonzero(~near[begin:stop])
            if not len(outside):
                break
            begin += outside[0]
            inside = np.flatnonzero(near[begin:])
            end = begin + inside[0] if len(inside) else stop
            rewards = np.zeros(end - begin, dtype=np.float32)
            rewards[-1] = len(inside) > 0
            if end - begin > 1:
                span = slice(begin, end)
                parts = {key: one[key][span] for key in ("observations", "actions")}
                episodes.append(parts | {"rewards": rewards, "terminal": len(inside) > 0})
            begin = end
    return episodes


def solved(trajectories, maze):
    """(E,) bool: which episodes were in the tested start's cell and reached the tested goal afterwards."""
    in_start = (maze.cell(trajectories.observations[:, :2]) == maze.start).all(axis=1)
    ends = trajectories.bounds[:, 1] - 1
    return np.logical_or.reduceat(in_start, trajectories.bounds[:, 0]) & trajectories.terminals[ends]


def coverage(trajectories, maze):
    """(rows, columns) int: how many steps of the data begin in each cell."""
    counts = np.zeros((len(maze.rows), len(maze.rows[0])), dtype=int)
    np.add.at(counts, tuple(maze.cell(trajectories.observations[:, :2]).T), 1)
    return counts
