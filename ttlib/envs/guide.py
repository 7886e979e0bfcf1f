"""A guide through mazes: from cell to cell along the shortest way, as D4RL leads its walkers (Fu et al. 2020)."""

import numpy as np

from ttlib.envs.ant_maze import RADIUS

NOISE = 0.2  # standard deviation of what is added to the actions of whoever is led
JITTER = 0.25  # a waypoint lies up to so far from the middle of its cell, along x and y, in cells: 1 m for an ant
INSIDE = 0.35  # a body is in a cell once it is so near to its middle, in cells; at the edge it would cut corners
PATIENCE = 100  # steps after which a waypoint that was not reached is drawn anew


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
