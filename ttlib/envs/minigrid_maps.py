"""MiniGrid's multi-room maps: made by minigrid, kept as plain arrays, and the rules of walking in them.

A map is a chain of small rooms, each joined to the next by a door. `generate` asks the minigrid
package for maps; `step` is minigrid's own step for a whole batch, since an object a cell and one
environment at a time would take hours for the millions of steps a model learns from.

All arrays are indexed [x][y], as minigrid's are. A heading is 0 right (x grows), 1 down (y grows),
2 left, 3 up. An action is one of `ACTIONS`, by number.
"""

import hashlib
import warnings
from dataclasses import dataclass, fields

import numpy as np

from ttlib.checkpoints import written_atomically
from ttlib.paths import ROOT

SIZE = 25  # cells along a side of the map
ACTIONS = {"left": 0, "right": 1, "forward": 2, "toggle": 5}  # name -> minigrid's number
LEFT, RIGHT, FORWARD, TOGGLE = range(4)  # our numbers, in the order of ACTIONS
AHEAD = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # the cell in front, by heading
FREE, WALL, DOOR = 0, 1, 2  # codes of cells; door k is DOOR + k, what lies outside of the rooms is free too
CHANNELS = 3  # of an image: wall, closed door, open door
# A map's seed is its purpose's first seed plus its number, so no map serves two purposes.
FIRST_SEED = {"training": 0, "validation": 10_000_000, "evaluation": 20_000_000}
BLOCK = 10_000  # maps a cache file


@dataclass
class Maps:
    """M maps of R rooms.

    Attributes:
        cells: (M, 25, 25) uint8 codes of cells.
        rooms: (M, R, 4) int8 x, y, width, height of each room with its walls, in the chain's order.
        starts: (M, 3) int8 x, y, heading in the first room.
        goals: (M, 2) int8 x, y in the last room.
    """

    cells: np.ndarray
    rooms: np.ndarray
    starts: np.ndarray
    goals: np.ndarray

    def __len__(self):
        return len(self.cells)

    def __getitem__(self, rows):
        """The maps `rows`, a slice or an array."""
        return Maps(*(getattr(self, field.name)[rows] for field in fields(self)))

    def in_the_corner(self):
        """The same maps, moved so that their rooms begin at (0, 0).

        Where in its grid a map lies changes nothing about it, and a model that need not learn so
        learns the rest faster.
        """
        left, top = self.rooms[..., 0].min(axis=1), self.rooms[..., 1].min(axis=1)
        rows, along = np.arange(len(self))[:, None, None], np.arange(self.cells.shape[1])
        x, y = along[:, None] + left[:, None, None], along + top[:, None, None]
        beyond = (x >= len(along)) | (y >= len(along))
        cells = np.where(beyond, FREE, self.cells[rows, x % len(along), y % len(along)]).astype(np.uint8)
        corner = np.stack([left, top], axis=1)
        rooms = np.concatenate([self.rooms[..., :2] - corner[:, None], self.rooms[..., 2:]], axis=2)
        starts = np.concatenate([self.starts[:, :2] - corner, self.starts[:, 2:]], axis=1)
        return Maps(cells, rooms, starts, self.goals - corner)

    @property
    def doors(self):
        """How many doors each map has."""
        return self.rooms.shape[1] - 1

    def fingerprint(self):
        """The first sixteen digits of the SHA-256 of all arrays."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def join(cls, parts):
        """One `Maps` out of several."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def generate(seeds, rooms=4):
    """The maps that minigrid makes from `seeds`, with that many rooms of at most 5 x 5 cells, walls included, moved to
    the corner.

    Not `MiniGrid-MultiRoom-N4-S5-v0`: whatever its name says, that one has six rooms.
    """
    with warnings.catch_warnings():  # of the packages that minigrid imports
        warnings.simplefilter("ignore")
        from minigrid.envs.multiroom import MultiRoomEnv
    env = MultiRoomEnv(minNumRooms=rooms, maxNumRooms=rooms, maxRoomSize=5)
    return Maps.join([read(env, seed) for seed in seeds]).in_the_corner()


def read(env, seed):
    """One `Maps` of what the minigrid environment shows after `reset(seed=seed)`."""
    env.reset(seed=int(seed))
    codes = {"wall": WALL, "door": DOOR}
    cells = [FREE if cell is None else codes.get(cell.type, FREE) for cell in env.grid.grid]
    cells = np.array(cells, dtype=np.uint8).reshape(env.height, env.width).T.copy()
    for number, room in enumerate(env.rooms[1:]):
        cells[room.entryDoorPos] = DOOR + number
    boxes = [(*room.top, *room.size) for room in env.rooms]
    start = (*env.agent_pos, env.agent_dir)
    return Maps(
        *(
            np.array([part], dtype)
            for part, dtype in ((cells, "u1"), (boxes, "i1"), (start, "i1"), (env.goal_pos, "i1"))
        )
    )


def load_maps(count, purpose="training", rooms=4, folder=None):
    """The first `count` maps of a purpose, made on first use (2 ms each) and kept in blocks of 10,000.

    Raises:
        ValueError: an unknown purpose.
    """
    if purpose not in FIRST_SEED:
        raise ValueError(f"there are no maps for {purpose!r}; there are maps for {', '.join(FIRST_SEED)}.")
    folder, first, parts = folder or ROOT / "data/cache/minigrid", FIRST_SEED[purpose], []
    for begin in range(first, first + count, BLOCK):
        size = min(BLOCK, first + count - begin)
        file = folder / f"{rooms}-rooms-{begin}.npz"
        if file.exists():
            with np.load(file, allow_pickle=False) as kept:
                parts.append(Maps(**kept)[:size])
            continue
        parts.append(generate(range(begin, begin + size), rooms))
        if size == BLOCK:
            with written_atomically(file) as temporary, open(temporary, "wb") as out:
                np.savez_compressed(out, **vars(parts[-1]))
    return Maps.join(parts).in_the_corner()


def reachable(maps):
    """(M, 25, 25) bool: the places and doors to which a way leads from the start."""
    inside = np.zeros(maps.cells.shape, dtype=bool)
    rows = np.arange(len(maps))
    inside[rows, maps.starts[:, 0], maps.starts[:, 1]] = True
    open_ground = maps.cells != WALL
    while True:
        grown = inside.copy()
        grown[:, 1:] |= inside[:, :-1]
        grown[:, :-1] |= inside[:, 1:]
        grown[:, :, 1:] |= inside[:, :, :-1]
        grown[:, :, :-1] |= inside[:, :, 1:]
        grown &= open_ground
        if (grown == inside).all():
            return inside
        inside = grown


def check(maps, size=SIZE):
    """Raise ValueError, in one sentence, unless agents can be sent from the starts to the goals of `maps`.

    Args:
        size: cells along a side that a model was trained for.
    """
    if maps.cells.ndim != 3 or maps.cells.shape[1:] != (size, size):
        raise ValueError(
            f"these maps are of shape {maps.cells.shape}, this model was trained for maps of {size} x {size} cells; "
            "give it such maps, or train one for yours."
        )
    for number, (cells, start, goal) in enumerate(zip(maps.cells, maps.starts, maps.goals, strict=True)):
        doors = np.sort(cells[cells >= DOOR])
        if not np.array_equal(doors, DOOR + np.arange(maps.doors)):
            raise ValueError(
                f"map {number} is no valid map: beside {FREE} for free and {WALL} for walls its cells must hold "
                f"each of its {maps.doors} doors once, as {DOOR} to {DOOR + maps.doors - 1}."
            )
        for what, place in (("start", start), ("goal", goal)):
            x, y = place[:2].tolist()
            if not (0 <= x < size and 0 <= y < size):
                raise ValueError(
                    f"the {what} ({x}, {y}) of map {number} lies outside of it; x and y run from 0 to {size - 1}."
                )
            if cells[x, y] != FREE:
                what_is_there = "a wall" if cells[x, y] == WALL else "a closed door"
                raise ValueError(f"the {what} ({x}, {y}) of map {number} lies in {what_is_there}; choose a free place.")
        if not 0 <= start[2] < 4:
            raise ValueError(f"the heading {start[2]} of map {number} is none of 0 right, 1 down, 2 left and 3 up.")
    joined = reachable(maps)[np.arange(len(maps)), maps.goals[:, 0], maps.goals[:, 1]]
    if not joined.all():
        number = int(np.flatnonzero(~joined)[0])
        raise ValueError(
            f"no way leads from the start of map {number} to its goal {tuple(maps.goals[number].tolist())}; "
            "choose a place in its rooms."
        )


def front(poses):
    """(..., 2) the cell before each of `poses` (..., 3)."""
    return poses[..., :2] + AHEAD[poses[..., 2]]


def step(cells, poses, opened, actions):
    """One step of E agents by minigrid's rules: a closed door or a wall stops, a toggle opens or closes a door.

    Args:
        cells: (E, 25, 25) codes.
        poses: (E, 3) integers x, y, heading.
        opened: (E, D) bool, which doors are open.
        actions: (E,) in 0 .. 3.

    Returns:
        poses and opened after it; the arguments are left as they are.
    """
    poses, opened, rows = poses.copy(), opened.copy(), np.arange(len(poses))
    ahead = front(poses)
    code = cells[rows, ahead[:, 0], ahead[:, 1]].astype(int)
    door = np.maximum(code - DOOR, 0)
    is_open = np.pad(opened, ((0, 0), (0, 1)))[rows, door]  # a map of one room has no door
    passable = (code == FREE) | ((code >= DOOR) & is_open)
    moves = (actions == FORWARD) & passable
    poses[moves, :2] = ahead[moves]
    poses[:, 2] = (poses[:, 2] + (actions == RIGHT) - (actions == LEFT)) % 4
    toggles = (actions == TOGGLE) & (code >= DOOR)
    opened[rows[toggles], door[toggles]] ^= True
    return poses, opened


def images(cells, opened):
    """(E, 3, 25, 25) uint8: where walls, closed doors and open doors are. Neither agent nor goal is in it."""
    found = np.stack([cells == WALL, cells >= DOOR, np.zeros_like(cells)], axis=1).astype(np.uint8)
    row, x, y = np.nonzero(found[:, 1])
    is_open = opened[row, cells[row, x, y] - DOOR]
    found[row, 1, x, y], found[row, 2, x, y] = ~is_open, is_open
    return found
