"""Ant maze and point maze: get from one end of a maze to the other, for a single reward at the goal.

The bodies and walls are gymnasium-robotics' (AntMaze v5, PointMaze v3), the task is D4RL's (Fu et al. 2020):

- an observation is one vector: for the ant x, y and 27 more numbers (height, orientation, joint angles, and
  all velocities), for the point x, y and both velocities. Where the goal is it does not say;
- the reward is 1 where the body comes within `RADIUS` metres of the goal, which ends the episode, else 0;
- the goal is always the same place, the middle of a cell; or, with `goals="random"`, start and goal are drawn
  anew each time, and `info["goal"]` tells.

`import ttlib.envs` registers AntMazeUMaze-v0, AntMazeMedium-v0, AntMazeLarge-v0 and the same of PointMaze.
AntMazeUMaze-D4RL-v0 and its sisters are for models of D4RL's data: its ant, which is weaker and takes
decisions half as often, its coordinates, and its goal, drawn anew for each episode.
"""

import importlib.util
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import ant_v5

from ttlib.envs.bodies import BodyEnv
from ttlib.envs.mazes import Maze, Walls, point

RADIUS = 0.5  # metres
REPEAT = 5  # simulation steps of the point in one of ours, so that it decides as often as the ant, 20 times a second
GOALS = ("fixed", "random")


class MazeTask(BodyEnv):
    """A body in a maze.

    Args:
        maze: "umaze", "medium" or "large".
        goals: "fixed", or "random" for a start and goal in any two free cells.

    `reset(options={"start": (x, y), "goal": (x, y)})` places either or both; what is not placed is drawn. With
    "velocity": (x, y), m/s, the body is thrown.

    Raises:
        ValueError: no such maze, goals, option or render mode; a place in a wall; a velocity or an action that is not
            finite numbers, or of another shape.
    """

    metadata: ClassVar[dict] = {"render_modes": []}
    size = 1.0  # edge of a cell, metres
    height = 0.4  # of the walls, in cells
    strength = 1.0  # what an action of 1 is to the motors
    d4rl = False
    noise = 0.25  # how far from the middle of its cell a start lies along x and y, in cells

    def __init__(self, maze="umaze", goals="fixed", render_mode=None):
        if goals not in GOALS:
            raise ValueError(f"there are no goals {goals!r}; there are {' and '.join(GOALS)}.")
        if render_mode is not None:
            raise ValueError(f"a maze has no render mode {render_mode!r}; draw with ttlib.render and ttlib.plots.")
        self.maze, self.goals, self.render_mode = Maze.named(maze, self.size, self.d4rl), goals, render_mode
        _, file = Walls.make_maze(self.body_file(), [list(row) for row in self.maze.rows], self.size, self.height)
        try:
            self.body = self.make_body(file)
        finally:
            Path(file).unlink(missing_ok=True)
        numbers = self.body.model.nq + self.body.model.nv
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape=(numbers,), dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape=(self.body.model.nu,), dtype=np.float32)
        self.goal = None

    def body_file(self):
        """The MJCF file of the body without a maze."""
        raise NotImplementedError

    def make_body(self, file):
        """gymnasium's environment of the body, from the MJCF file with the maze in it."""
        raise NotImplementedError

    def simulate(self, action):
        """Let the body move for one step."""
        self.body.do_simulation(self.strength * action, self.body.frame_skip)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        options = dict(options or {})
        if unknown := sorted(set(options) - {"start", "goal", "velocity"}):
            raise ValueError(f"a maze has no option {unknown[0]!r}; there are 'start', 'goal' and 'velocity'.")
        start_cell, goal_cell = self.maze.start, self.maze.goal
        if self.goals == "random":
            start_cell, goal_cell = self.maze.free[self.np_random.choice(len(self.maze.free), 2, replace=False)]
        start = self.maze.center(start_cell) + self.np_random.uniform(-1, 1, size=2) * self.noise * self.size
        goal = self.place_goal(goal_cell)
        start, self.goal = (
            place if options.get(key) is None else self.maze.check(options[key], key)
            for key, place in (("start", start), ("goal", goal))
        )
        self.body.init_qpos[:2] = start + self.maze.origin
        self.body.reset(seed=int(self.np_random.integers(2**31)))
        if options.get("velocity") is not None:
            moving = self.body.data.qvel.copy()
            moving[:2] = _finite(options["velocity"], 2, "a velocity")
            self.body.set_state(self.body.data.qpos.copy(), moving)
        return self._observation(), {"goal": self.goal.astype(np.float32)}

    def place_goal(self, cell):
        """(2,) where in its cell the goal lies."""
        return self.maze.center(cell)

    def step(self, action):
        if self.goal is None:
            raise ValueError("call reset before the first step.")
        self.simulate(_finite(action, self.action_space.shape[0], "an action").clip(-1, 1))
        observation = self._observation()
        reached = bool(np.linalg.norm(observation[:2] - self.goal) <= RADIUS)
        return observation, float(reached), reached, False, {"goal": self.goal.astype(np.float32)}

    def _observation(self):
        seen = np.concatenate([self.body.data.qpos, self.body.data.qvel])
        seen[:2] -= self.maze.origin
        return seen.astype(np.float32)


class AntMaze(MazeTask):
    """gymnasium's ant (Ant-v5) in cells of 4 m. 29 observation and 8 action dimensions."""

    size = 4.0
    height = 0.5

    def body_file(self):
        return str(Path(ant_v5.__file__).with_name("assets") / "ant.xml")

    def make_body(self, file):
        return ant_v5.AntEnv(xml_file=file, include_cfrc_ext_in_observation=False)


class PointMaze(MazeTask):
    """A ball that is pushed, in cells of 1 m. 4 observation and 2 action dimensions."""

    def body_file(self):
        return str(Path(point.__file__).parents[1] / "assets" / "point" / "point.xml")

    def make_body(self, file):
        return point.PointEnv(xml_file=file)

    def simulate(self, action):
        for _ in range(REPEAT):
            self.body.step(action)

    @property
    def dt(self):
        return REPEAT * self.body.dt


class D4RLAntMaze(AntMaze):
    """D4RL's ant in D4RL's coordinates; needs the package d4rl, whose file of the body is read."""

    strength = 30.0
    d4rl = True
    noise = 0.0

    def body_file(self):
        spec = importlib.util.find_spec("d4rl")
        path = Path(spec.origin).parent / "locomotion" / "assets" / "ant.xml" if spec and spec.origin else None
        if path is None or not path.is_file():
            raise ValueError(
                "D4RL's ant comes from the package d4rl, which is not installed; install it with `pip install d4rl` "
                "(it is only read, never imported)."
            )
        return str(path)

    def place_goal(self, cell):
        drawn = (
            self.np_random.uniform(0, 1, size=2) * self.size / 4 + self.np_random.uniform(0, 1, size=2) * self.size / 8
        )
        return np.maximum(self.maze.center(cell) + drawn, 0)


def _finite(numbers, count, what):
    """`numbers` (count,) as float64; ValueError unless they are so many finite ones."""
    numbers = np.asarray(numbers, dtype=float)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{what} is {count} finite numbers, not {numbers.tolist()!r}.")
    return numbers
