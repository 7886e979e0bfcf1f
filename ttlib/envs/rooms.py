"""Rooms: a flat map of walls with doorways; moving, seeing and the shortest way in it.

Everything is exact and works on whole batches of positions. A wall is a straight
line of some thickness, along x or y, out of which its doorways are cut. What is left
are boxes, and all questions become "where does this segment enter that box?".
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

SKIN = 1e-6  # by how much each box is grown, so that boxes which only touch leave no slit between them


@dataclass(frozen=True)
class Rooms:
    """A rectangle [0, width] x [0, height] with walls in it.

    Attributes:
        size: (width, height).
        walls: centre lines ((x0, y0), (x1, y1)), each along x or along y.
        doorways: gaps, in the same form; each lies on the centre line of at least one wall.
        thickness: of the walls. They reach half a thickness past their ends.

    Raises:
        ValueError: a number is missing or not finite, a wall is slanted, a doorway lies on no
            wall, or a part of the map cannot be reached from the rest.
    """

    size: tuple = (10.0, 10.0)
    walls: tuple = ()
    doorways: tuple = ()
    thickness: float = 0.2

    def __post_init__(self):
        size = np.asarray(self.size, dtype=float)
        if size.shape != (2,) or not np.isfinite(size).all() or (size <= 0).any():
            raise ValueError(f"the size of a map is two positive numbers (width, height), not {self.size!r}.")
        if not 0 < self.thickness < size.min():
            raise ValueError(f"walls have a positive thickness below the map's size, not {self.thickness!r}.")
        rounded = size.astype(np.float32)
        rounded = np.where(rounded < size, np.nextafter(rounded, np.float32(np.inf)), rounded)
        object.__setattr__(self, "size", tuple(rounded.tolist()))
        for key in ("walls", "doorways"):
            object.__setattr__(self, key, tuple(_line(line, key[:-1], i) for i, line in enumerate(getattr(self, key))))
        if not len(self.free_cells):
            raise ValueError("this map has no free place: its walls fill it.")
        if self.free_cells[:, 4].any():
            x, y = self.free_cells[self.free_cells[:, 4] > 0][0, :4].reshape(2, 2).mean(axis=0)
            raise ValueError(
                f"this map has a part without a doorway: the place ({x:.2f}, {y:.2f}) cannot be reached from the "
                "rest; cut a doorway into a wall around it."
            )

    @cached_property
    def boxes(self):
        """(W, 4) x0, y0, x1, y1 of the walls with their doorways cut out."""
        half, pieces, used = self.thickness / 2, [], set()
        for wall in self.walls:
            axis = int(wall[0][0] == wall[1][0])  # the axis along which the wall runs
            line, ends = wall[0][1 - axis], [(wall[0][axis] - half, wall[1][axis] + half)]
            for number, door in enumerate(self.doorways):
                if door[0][1 - axis] == door[1][1 - axis] == line and door[0][axis] < door[1][axis]:
                    low, high = door[0][axis], door[1][axis]
                    if wall[0][axis] <= low and high <= wall[1][axis]:
                        used.add(number)
                        ends = [piece for a, b in ends for piece in ((a, min(b, low)), (max(a, high), b))]
                        ends = [(a, b) for a, b in ends if a < b]
            for low, high in ends:
                box = np.empty(4)
                box[[axis, 2 + axis]] = low, high
                box[[1 - axis, 3 - axis]] = line - half, line + half
                pieces.append(box)
        for number, door in enumerate(self.doorways):
            if number not in used:
                raise ValueError(f"doorway {number}, {door}, does not lie on a wall; give it the centre line of one.")
        return _grown(pieces)

    @cached_property
    def obstacles(self):
        """(W + 4, 4) `boxes`, and four more around the map."""
        (w, h), far = self.size, max(self.size)
        left, right = (-far, -far, 0, h + far), (w, -far, w + far, h + far)
        below, above = (-far, -far, w + far, 0), (-far, h, w + far, h + far)
        return np.concatenate([self.boxes, [left, right, below, above]])

    @cached_property
    def free_cells(self):
        """(F, 5) x0, y0, x1, y1 of the free cells between the boxes' edges, and whether cut off from the first."""
        xs, ys = (np.unique(np.clip(self.obstacles[:, [k, k + 2]], 0, self.size[k])) for k in (0, 1))
        wide, high = np.diff(xs) > 4 * SKIN, np.diff(ys) > 4 * SKIN
        x, y = (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2
        centres = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
        free = ~self.blocked(centres) & wide[:, None] & high
        if not free.any():
            return np.empty((0, 5))
        reached = np.zeros_like(free)
        reached[tuple(np.argwhere(free)[0])] = True
        while True:
            grown = reached.copy()
            grown[1:] |= reached[:-1]
            grown[:-1] |= reached[1:]
            grown[:, 1:] |= reached[:, :-1]
            grown[:, :-1] |= reached[:, 1:]
            grown &= free
            if (grown == reached).all():
                break
            reached = grown
        i, j = np.nonzero(free)
        return np.stack([xs[i], ys[j], xs[i + 1], ys[j + 1], ~reached[i, j]], axis=1)

    def blocked(self, points):
        """Whether each of `points` (..., 2) lies in a wall or outside of the map."""
        points, boxes = np.asarray(points, dtype=float), self.obstacles
        x, y = points[..., 0, None], points[..., 1, None]
        return ((x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])).any(axis=-1)

    def move(self, points, steps):
        """Go from `points` by `steps`, both (..., 2), as far as the walls allow.

        A move that meets a wall slides: the part of it that points into the wall is lost, the
        part along the wall goes on to the next wall. Where that would lead around a corner, so
        that the straight line from start to end were not free, the move ends where it met the wall.
        """
        points, steps = np.asarray(points, dtype=float), np.asarray(steps, dtype=float)
        met, along = self._straight(points, steps)
        end, _ = self._straight(met, along)
        return np.where(self.visible(points, end)[..., None], end, met)

    def _straight(self, p, d):
        """Where a straight move (..., 2) first meets a wall, and what is left of it along that wall's face."""
        enter, leave = _crossings(p, d, self.obstacles)
        hits = (enter < leave) & (leave > 0) & (enter < 1)
        share = np.where(hits, enter, 1.0).min(axis=-1)[..., None]
        stop = p + np.maximum(share, 0) * d
        # Put the coordinate that met the wall exactly onto its face, against rounding.
        box = self.obstacles[np.where(hits, enter, np.inf).argmin(axis=-1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            face = np.where(d > 0, box[..., :2], box[..., 2:])
            when = np.where(d == 0, -np.inf, (face - p) / d)
        meets = (share < 1) & (when == when.max(axis=-1, keepdims=True))
        stop = np.where(meets, face, stop)
        stop = np.where(self.blocked(stop)[..., None], p, stop)
        return stop, np.where(meets, 0.0, (1 - np.clip(share, 0, 1)) * d)

    def visible(self, starts, ends):
        """Whether the segment from `starts` to `ends`, both (..., 2) in the map, is free; it may touch a wall."""
        starts, ends = np.asarray(starts, dtype=float), np.asarray(ends, dtype=float)
        enter, leave = _crossings(starts, ends - starts, self.boxes)
        return ~(np.minimum(leave, 1) - np.maximum(enter, 0) > 1e-9).any(axis=-1)

    @cached_property
    def corners(self):
        """(C, 2) the free corners of the walls: the only places where a shortest path can bend."""
        x, y = self.boxes[:, [0, 2, 0, 2]].ravel(), self.boxes[:, [1, 1, 3, 3]].ravel()
        points = np.stack([x, y], axis=1)
        return points[~self.blocked(points)]

    @cached_property
    def corner_distances(self):
        """(C, C) length of the shortest path between each pair of corners."""
        return all_pairs(self, self.corners)

    def shortest(self, starts, goals):
        """Lengths (...) of the shortest paths from `starts` to `goals`, both (..., 2), by the visibility graph.

        Raises:
            ValueError: a start or goal lies in a wall or outside of the map.
        """
        starts, goals = self.check(starts, "start"), self.check(goals, "goal")
        first, last = reach(self, starts, self.corners), reach(self, goals, self.corners)
        to_goal = (self.corner_distances + last[..., None, :]).min(axis=-1, initial=np.inf)
        around = (first + to_goal).min(axis=-1, initial=np.inf)
        direct = np.where(self.visible(starts, goals), np.linalg.norm(goals - starts, axis=-1), np.inf)
        return np.minimum(direct, around)

    def check(self, points, what="position"):
        """`points` (..., 2) as float64; ValueError if one is not a free place of this map."""
        points = np.asarray(points, dtype=float)
        if points.shape[-1:] != (2,) or not np.isfinite(points).all():
            raise ValueError(f"a {what} is two finite numbers (x, y), not {points.tolist()!r}.")
        bad = points[self.blocked(points)].reshape(-1, 2)
        if len(bad):
            x, y = bad[0]
            raise ValueError(f"the {what} ({x:.3f}, {y:.3f}) lies in a wall or outside of the map; choose another.")
        return points

    def sample(self, rng, count):
        """`count` places (count, 2), uniform over the free ground, by the numpy generator `rng`."""
        points = np.empty((0, 2))
        while len(points) < count:
            drawn = rng.uniform(0, self.size, size=(count, 2))
            points = np.concatenate([points, drawn[~self.blocked(drawn)]])
        return points[:count]


def reach(rooms, points, nodes):
    """(..., K) distances from `points` (..., 2) to `nodes` (K, 2) or (..., K, 2); inf where a wall is between."""
    points = np.asarray(points, dtype=float)[..., None, :]
    return np.where(rooms.visible(points, nodes), np.linalg.norm(nodes - points, axis=-1), np.inf)


def all_pairs(rooms, nodes):
    """(K, K) lengths of the shortest ways between `nodes` (K, 2), from node to visible node (Floyd-Warshall)."""
    distances = reach(rooms, nodes, nodes)
    for via in range(len(nodes)):
        distances = np.minimum(distances, distances[:, via, None] + distances[None, via])
    return distances


def _crossings(points, steps, boxes):
    """(..., W) shares of the step at which the line through `points` along `steps` enters and leaves each box.

    enter < leave where the line meets the box's inside, and not so (perhaps nan) where it does not.
    """
    enter, leave = -np.inf, np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        # Without a step along an axis these are -inf and inf between the faces, nan on a face.
        for axis in (0, 1):
            p, d = points[..., axis, None], steps[..., axis, None]
            low, high = (boxes[:, axis] - p) / d, (boxes[:, 2 + axis] - p) / d
            enter, leave = np.maximum(enter, np.minimum(low, high)), np.minimum(leave, np.maximum(low, high))
    return enter, leave


def _grown(boxes):
    """Boxes (W, 4) a little larger, with edges that float32 holds exactly.

    A free position is then free after it is rounded to float32, as observations are, since rounding keeps the order.
    """
    outward = np.array([-1, -1, 1, 1])
    grown = (np.asarray(boxes, dtype=float).reshape(-1, 4) + SKIN * outward).astype(np.float32)
    return np.nextafter(grown, (np.inf * outward).astype(np.float32)).astype(float)


def _line(line, what, number):
    """A wall or doorway as ((x0, y0), (x1, y1)) floats from its lower end to its upper one."""
    ends = np.asarray(line, dtype=float)
    if ends.shape != (2, 2) or not np.isfinite(ends).all():
        raise ValueError(f"{what} {number} is two points ((x0, y0), (x1, y1)), not {line!r}.")
    if (ends[0] != ends[1]).sum() != 1:
        raise ValueError(f"{what} {number}, {line!r}, must run along x or along y and have a length.")
    low, high = sorted(map(tuple, ends.tolist()))
    return low, high


# The default: two walls that cross in the middle of a 10 x 10 square, a doorway of 1.2 in each arm.
FOUR_ROOMS = Rooms(
    size=(10.0, 10.0),
    walls=(((5, 0), (5, 10)), ((0, 5), (10, 5))),
    doorways=(((5, 1.9), (5, 3.1)), ((5, 7.2), (5, 8.4)), ((1.4, 5), (2.6, 5)), ((6.9, 5), (8.1, 5))),
)
