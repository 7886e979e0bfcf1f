"""Key-to-Door: what was done in the first room decides what the last one pays (Mesnard et al. 2020).

Three rooms in a row. A key lies in the first, balls that are worth nothing in the second, and a
locked door is in the last. The agent spends a fixed number of steps in each room and is then put
into the next one. It turns left or right or goes forward; going forward takes the key or a ball
that lies ahead, and opens the door there for whom has the key. Opening it pays 1, anything else 0.
The key must have been taken long before, without any reward for it, and is not seen again, for
what the agent carries does not show in its view. So credit for it has to be given across a room
that tells nothing.

`KeyToDoor` is the environment, on the minigrid package. `Walkers` follows the same rules for many
agents at once, and is what collects random walks.
"""

from dataclasses import dataclass
from typing import ClassVar

import gymnasium
import numpy as np
from minigrid.core.actions import Actions
from minigrid.core.constants import DIR_TO_VEC, OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Door, Key
from minigrid.minigrid_env import MiniGridEnv

from ttlib.trajectories import Trajectories

LEFT, RIGHT, FORWARD = range(3)  # the actions
UNSEEN, EMPTY, WALL, DOOR, KEY, BALL = (
    OBJECT_TO_IDX[name] for name in ("unseen", "empty", "wall", "door", "key", "ball")
)


@dataclass(frozen=True)
class Task:
    """How large the rooms are and how long each lasts. With the defaults, one random walk in thirty-odd opens the door.

    Attributes:
        side: cells along a side of a room, walls not counted.
        steps: spent in each room.
        balls: in the second room.
        view: cells along a side of what the agent sees; it stands in the middle of the nearest row. Odd.
    """

    side: int = 2
    steps: tuple = (6, 2, 8)
    balls: int = 1
    view: int = 5

    @property
    def size(self):
        """Width and height of the grid, walls included."""
        return 3 * (self.side + 1) + 1, self.side + 2

    @property
    def leaving(self):
        """The steps after which each room is over; the last is the longest episode."""
        return np.cumsum(self.steps).tolist()


@dataclass
class Layouts:
    """Where things are in each of E episodes.

    Attributes:
        starts: (E, 3, 2) cell in which the agent begins each room.
        directions: (E, 3) where it looks then: 0 right, 1 down, 2 left, 3 up.
        key: (E, 2) its cell.
        balls: (E, balls, 2) their cells.
        door: (E, 2) its cell, in the far wall of the last room.
    """

    starts: np.ndarray
    directions: np.ndarray
    key: np.ndarray
    balls: np.ndarray
    door: np.ndarray

    @classmethod
    def draw(cls, task, rng, count):
        """All places uniformly random, no two things in the same cell."""
        side = task.side

        def cells(room, things):
            chosen = rng.random((count, side * side)).argsort(axis=1)[:, :things]
            return np.stack([room * (side + 1) + 1 + chosen // side, 1 + chosen % side], axis=-1)

        first, second, last = cells(0, 2), cells(1, 1 + task.balls), cells(2, 1)
        rows = rng.integers(1, side + 1, count)
        return cls(
            starts=np.stack([first[:, 0], second[:, 0], last[:, 0]], axis=1),
            directions=rng.integers(4, size=(count, 3)),
            key=first[:, 1],
            balls=second[:, 1:],
            door=np.stack([np.full(count, task.size[0] - 1), rows], axis=1),
        )


class KeyToDoor(MiniGridEnv):
    """One agent. Observation: (view * view,) float32, minigrid's number of the kind of object in each cell that
    it sees. Action: 0 left, 1 right, 2 forward. Reward: 1 when the door opens, which ends the episode, else 0;
    it is truncated when the steps of the last room are over.

    `reset(options={"layout": Layouts})` takes the first of these layouts; else one is drawn.

    Raises:
        ValueError: an action that is none, or an unknown option.
    """

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, task=None, render_mode=None):
        self.task = task or Task()
        width, height = self.task.size
        super().__init__(
            MissionSpace(mission_func=lambda: "open the door"),
            width=width,
            height=height,
            max_steps=self.task.leaving[-1],
            agent_view_size=self.task.view,
            render_mode=render_mode,
        )
        cells = self.task.view**2
        self.observation_space = gymnasium.spaces.Box(0, max(OBJECT_TO_IDX.values()), (cells,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        options = dict(options or {})
        if unknown := sorted(set(options) - {"layout"}):
            raise ValueError(f"key-to-door has no option {unknown[0]!r}; there is 'layout'.")
        self.layout, self.has_key = options.get("layout"), False
        return super().reset(seed=seed)

    def _gen_grid(self, width, height):
        self.layout = layout = self.layout or Layouts.draw(self.task, self.np_random, 1)
        self.grid = Grid(width, height)
        for room in range(3):
            self.grid.wall_rect(room * (self.task.side + 1), 0, self.task.side + 2, self.task.side + 2)
        self.put_obj(Key("yellow"), *layout.key[0].tolist())
        for ball in layout.balls[0].tolist():
            self.put_obj(Ball("blue"), *ball)
        self.exit = Door("yellow", is_locked=True)
        self.put_obj(self.exit, *layout.door[0].tolist())
        self._enter(0)

    def _enter(self, room):
        self.room = room
        self.agent_pos = tuple(self.layout.starts[0, room].tolist())
        self.agent_dir = int(self.layout.directions[0, room])
        # The key stays in the pocket until the door is near.
        self.carrying = Key("yellow") if room == 2 and self.has_key else None

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"an action of key-to-door is 0 (left), 1 (right) or 2 (forward), not {action!r}.")
        ahead = self.grid.get(*self.front_pos)
        forward = {"key": Actions.pickup, "ball": Actions.pickup, "door": Actions.toggle}
        meant = forward.get(ahead.type if ahead else None, Actions.forward) if action == FORWARD else Actions(action)
        observation, _, _, truncated, info = super().step(meant)
        if self.room < 2 and self.carrying:
            self.has_key |= self.carrying.type == "key"
            self.carrying = None  # a ball is of no use, and is gone
        if self.room < 2 and self.step_count == self.task.leaving[self.room]:
            self._enter(self.room + 1)
            observation = self.gen_obs()
        opened = bool(self.exit.is_open)
        return observation, float(opened), opened, truncated and not opened, info

    def gen_obs_grid(self, agent_view_size=None):
        grid, visible = super().gen_obs_grid(agent_view_size)
        grid.set(self.task.view // 2, self.task.view - 1, None)  # what it carries does not show
        return grid, visible

    def gen_obs(self):
        return super().gen_obs()["image"][:, :, 0].astype(np.float32).ravel()


class Walkers:
    """The same rules for E agents at once, without pictures.

    Attributes:
        cells: (E, width, height) kind of object in each cell.
        places, directions: (E, 2), (E,) of the agents.
        has_key, opened: (E,) bool.
    """

    def __init__(self, task, layouts):
        self.task, self.layouts, count = task, layouts, len(layouts.key)
        self.rows = np.arange(count)
        self.cells = np.full((count, *task.size), EMPTY, dtype=np.uint8)
        self.cells[:, :: task.side + 1] = WALL
        self.cells[:, :, [0, -1]] = WALL
        self.cells[self.rows, *layouts.key.T] = KEY
        for ball in np.moveaxis(layouts.balls, 1, 0):
            self.cells[self.rows, *ball.T] = BALL
        self.cells[self.rows, *layouts.door.T] = DOOR
        self.has_key, self.opened = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        self.steps = 0
        self._enter(0)

    def _enter(self, room):
        self.room = room
        self.places, self.directions = self.layouts.starts[:, room].copy(), self.layouts.directions[:, room].copy()

    def step(self, actions):
        """Take `actions` (E,); what those do whose door is open does not matter."""
        actions = np.asarray(actions)
        ahead = self.places + np.stack(DIR_TO_VEC)[self.directions]
        faced = np.where(actions == FORWARD, self.cells[self.rows, *ahead.T], WALL)
        self.directions = (self.directions + (actions == RIGHT) - (actions == LEFT)) % 4
        self.places = np.where((faced == EMPTY)[:, None], ahead, self.places)
        taken = (faced == KEY) | (faced == BALL)
        self.cells[self.rows[taken], *ahead[taken].T] = EMPTY
        self.has_key |= faced == KEY
        self.opened |= (faced == DOOR) & self.has_key
        self.steps += 1
        if self.steps in self.task.leaving[:2]:
            self._enter(self.room + 1)

    def observe(self):
        """(E, view * view) float32, what each agent sees: its own room with its walls, as far as its view goes."""
        view, side = self.task.view, self.task.side
        forward = np.stack(DIR_TO_VEC)[self.directions]
        right = np.stack([-forward[:, 1], forward[:, 0]], axis=1)
        across, depth = (grid.ravel() for grid in np.meshgrid(np.arange(view), np.arange(view), indexing="ij"))
        seen = self.places[:, None] + forward[:, None] * (view - 1 - depth)[:, None]
        seen = seen + right[:, None] * (across - view // 2)[:, None]
        left = self.room * (side + 1)
        visible = (seen >= [left, 0]).all(axis=-1) & (seen <= [left + side + 1, side + 1]).all(axis=-1)
        inside = np.where(visible[..., None], seen, 0)
        kinds = self.cells[self.rows[:, None], inside[..., 0], inside[..., 1]]
        return np.where(visible, kinds, UNSEEN).astype(np.float32)


def collect(count, seed=0, task=None):
    """`Trajectories` of `count` random walks: every action is drawn uniformly, nobody looks for anything.

    What the agents did before they were done is kept, so a walk that opened the door is shorter than the others.
    """
    task, rng = task or Task(), np.random.default_rng([19, seed])
    walkers = Walkers(task, Layouts.draw(task, rng, count))
    length = task.leaving[-1]
    observations = np.zeros((count, length, task.view**2), dtype=np.float32)
    actions = rng.integers(3, size=(count, length))
    going = np.zeros((count, length), dtype=bool)
    for t in range(length):
        observations[:, t], going[:, t] = walkers.observe(), ~walkers.opened
        walkers.step(actions[:, t])
    lengths = going.sum(axis=1)
    last = np.zeros_like(going)
    last[np.arange(count), lengths - 1] = True
    opened = walkers.opened[:, None] & last
    return Trajectories(
        observations=observations[going],
        actions=actions[going][:, None],
        rewards=opened[going].astype(np.float32),
        terminals=opened[going],
        timeouts=(last & ~opened)[going],
        name="local:key-to-door",
        env_id="KeyToDoor-v0",
    )
