"""A guide through mazes: from cell to cell along the shortest way, as D4RL leads its walkers (Fu et al. 2020)."""

import numpy as np

from ttlib.envs.ant_maze import RADIUS

NOISE = 0.2  # standard deviation of what is added to the actions of whoever is led
JITTER = 0.25  # a waypoint lies up to so far from the middle of its cell, along x and y, in cells: 1 m for an ant
INSIDE = 0.35  # a body is in a cell once it is so near to its middle, in cells; at the edge it would cut corners
PATIENCE = 100  # steps after which a waypoint that was not reached is drawn anew
# How often a body without a whim gets one, on average, and how long it keeps it, in steps.
WHIM_EVERY, WHIM_LASTS = 15, (4, 12)


class Guide:
    """Leads several bodies through a maze, each to a goal of its own, cell by cell.

    Args:
        maze: `Maze`.
        rng: numpy generator of the jitter.
        count: how many bodies.
    """

    def __init__(self, maze, rng, count):
        self.maze, self.rng, self.tables = maze, rng, {}
        self.here, self.goals = np.zeros((count, 2), dtype=int), np.zeros((count, 2), dtype=int)
        self.waypoint, self.age = np.zeros((count, 2)), np.zeros(count, dtype=int)

    def begin(self, number, start, goal):
        """Body `number` is in the cell `start` and is to go to the cell `goal`."""
        self.here[number], self.goals[number] = start, goal
        self._send(number)

    def waypoints(self, rows, places):
        """Where (K, 2) the bodies `rows` (K,) that are at `places` (K, 2) are to go next."""
        cells = self.maze.cell(places)
        depth = np.abs(places - self.maze.center(cells)).max(axis=1) / self.maze.size
        elsewhere = (cells != self.here[rows]).any(axis=1) & (depth <= INSIDE)
        self.age[rows] += 1
        for row in np.flatnonzero(elsewhere | (self.age[rows] > PATIENCE)):
            if self.maze.is_free(cells[row]):
                self.here[rows[row]] = cells[row]
            self._send(rows[row])
        return self.waypoint[rows]

    def arrived(self, number, place):
        """Whether body `number`, at `place` (2,), has reached the middle of its goal."""
        return np.linalg.norm(place - self.maze.center(self.goals[number])) <= RADIUS

    def _send(self, number):
        goal = tuple(self.goals[number].tolist())
        if goal not in self.tables:
            self.tables[goal] = self.maze.next_cells(goal)
        following = self.tables[goal][tuple(self.here[number])]
        jitter = self.rng.uniform(0, JITTER, size=2) * self.maze.size
        # Without jitter at the last one, since half of the walks to the tested goal would pass it by.
        self.waypoint[number] = self.maze.center(following) + (jitter if tuple(following) != goal else 0)
        self.age[number] = 0


class Whims:
    """Bodies that are led do, now and then and for a few steps, as they please: they go any way.

    One that always goes on along its cells tells by how it moves where it was sent. A model of such recordings knows
    that as well, and proposes nothing else; and what another way would have come to, no critic can learn from them.

    Args:
        rng: numpy generator.
        count: how many bodies.
    """

    def __init__(self, rng, count):
        self.rng, self.left, self.way = rng, np.zeros(count, dtype=int), np.zeros((count, 2))

    def redirect(self, rows, places, waypoints):
        """Where (K, 2) the bodies `rows` (K,) at `places` (K, 2) go, that were sent to `waypoints` (K, 2)."""
        self.left[rows] -= 1
        begin = rows[(self.left[rows] < 0) & (self.rng.random(len(rows)) < 1 / WHIM_EVERY)]
        self.left[begin] = self.rng.integers(WHIM_LASTS[0], WHIM_LASTS[1] + 1, size=len(begin))
        angle = self.rng.uniform(0, 2 * np.pi, size=len(begin))
        self.way[begin] = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.where(self.left[rows, None] > 0, places + self.way[rows], waypoints)
