"""Mazes of square cells: places, ways along cells, and what stands between.

The maps are those of gymnasium-robotics, which took them from D4RL (Fu et al. 2020). A cell is
(row, column) and a wall or free; a place is (x, y) in metres. As in gymnasium-robotics the
middle of the map is at (0, 0), x grows with the column and y falls with the row.
"""

import contextlib
import io
from collections import deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np

with contextlib.redirect_stderr(io.StringIO()):  # importing it prints a notice about robot hands
    from gymnasium_robotics.envs.maze import maps, point
    from gymnasium_robotics.envs.maze.maze_v4 import Maze as Walls

__all__ = ["MAPS", "PLACES", "Maze", "Walls", "point"]

# The tested start and goal of each map: D4RL's.
MAPS = {
    "umaze": (maps.U_MAZE, (1, 1), (3, 1)),
    "medium": (maps.MEDIUM_MAZE, (1, 1), (6, 6)),
    "large": (maps.LARGE_MAZE, (1, 1), (7, 9)),
}
# Cells that gymnasium-robotics marks in each map as starts and goals, and the two tested ones.
PLACES = {
    "umaze": ((1, 1), (1, 3), (3, 3), (3, 1)),
    "medium": ((1, 1), (2, 6), (5, 1), (6, 5), (6, 6)),
    "large": ((1, 1), (1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}
STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Maze:
    """A maze.

    Attributes:
        rows: the map, a tuple of rows of 1 (wall) and 0 (free).
        size: edge of a cell, metres.
        start, goal: the tested cells.
        origin: (x, y), where in gymnasium-robotics' coordinates the point (0, 0) of this maze lies.
    """

    rows: tuple
    size: float
    start: tuple
    goal: tuple
    origin: tuple = (0.0, 0.0)

    @classmethod
    def named(cls, name, size, d4rl=False):
        """The map called `name`, in cells of `size` metres.

        Args:
            d4rl: in D4RL's coordinates: y grows with the row, and the start is at (0, 0). The map is turned
                over, so that it is the same maze for a body that knows its left from its right.

        Raises:
            ValueError: there is no such map.
        """
        if name not in MAPS:
            raise ValueError(f"there is no maze {name!r}; there are {', '.join(MAPS)}.")
        rows, start, goal = MAPS[name]
        rows = tuple(tuple(int(cell == 1) for cell in row) for row in rows)
        if not d4rl:
            return cls(rows, float(size), start, goal)
        start, goal = ((len(rows) - 1 - row, column) for row, column in (start, goal))
        turned = cls(rows[::-1], float(size), start, goal)
        return cls(turned.rows, turned.size, start, goal, tuple(turned.center(start)))

    @cached_property
    def free(self):
        """(K, 2) all free cells, row by row."""
        return np.argwhere(np.array(self.rows) == 0)

    def center(self, cells):
        """Places (..., 2) of the middles of cells (..., 2)."""
        cells = np.asarray(cells, dtype=float)
        height, width = len(self.rows), len(self.rows[0])
        x = (cells[..., 1] + 0.5 - width / 2) * self.size - self.origin[0]
        y = (height / 2 - cells[..., 0] - 0.5) * self.size - self.origin[1]
        return np.stack([x, y], axis=-1)

    def cell(self, places):
        """Cells (..., 2) int that places (..., 2) lie in; those outside of the map count to the nearest."""
        places = np.asarray(places, dtype=float) + self.origin
        height, width = len(self.rows), len(self.rows[0])
        row = np.floor(height / 2 - places[..., 1] / self.size)
        column = np.floor(places[..., 0] / self.size + width / 2)
        cells = np.stack([row.clip(0, height - 1), column.clip(0, width - 1)], axis=-1)
        return cells.astype(int)

    def is_free(self, cells):
        """Whether cells (..., 2) are free."""
        cells = np.asarray(cells)
        return np.array(self.rows)[cells[..., 0], cells[..., 1]] == 0

    def distances(self, goal):
        """(rows, columns) steps from cell to free neighbouring cell to the cell `goal`, breadth first; inf in walls."""
        found = np.full((len(self.rows), len(self.rows[0])), np.inf)
        found[tuple(goal)] = 0
        waiting = deque([tuple(goal)])
        while waiting:
            here = waiting.popleft()
            for step in STEPS:
                there = (here[0] + step[0], here[1] + step[1])
                if self.rows[there[0]][there[1]] == 0 and np.isinf(found[there]):
                    found[there] = found[here] + 1
                    waiting.append(there)
        return found

    def next_cells(self, goal):
        """(rows, columns, 2) int: the neighbour that is one step nearer to `goal`; walls and the goal stay."""
        distances = self.distances(goal)
        following = np.stack(np.indices(distances.shape), axis=-1)
        for cell in self.free:
            neighbours = [cell + step for step in STEPS]
            nearest = min(neighbours, key=lambda other: distances[tuple(other)])
            if distances[tuple(nearest)] < distances[tuple(cell)]:
                following[tuple(cell)] = nearest
        return following

    @cached_property
    def boxes(self):
        """(W, 4) left, bottom, right, top of each wall cell, for drawing."""
        middle = self.center(np.argwhere(np.array(self.rows) == 1))
        return np.concatenate([middle - self.size / 2, middle + self.size / 2], axis=1)

    def check(self, place, what):
        """`place` (2,) as float64; ValueError unless it is two finite numbers in a free cell."""
        try:
            place = np.asarray(place, dtype=float)
        except (TypeError, ValueError):
            place = np.empty(0)
        if place.shape != (2,) or not np.isfinite(place).all():
            raise ValueError(f"the {what} is two finite numbers (x, y), not {place.tolist()!r}.")
        inside = (np.abs(self.center(self.cell(place)) - place) <= self.size / 2).all()
        if not (inside and self.is_free(self.cell(place))):
            raise ValueError(f"the {what} ({place[0]:.2f}, {place[1]:.2f}) lies in a wall or outside of the maze.")
        return place
