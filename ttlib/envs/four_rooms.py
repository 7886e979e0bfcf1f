"""Four rooms: steer a point through doorways to a goal (section 4.2 and figure 6 of the paper).

The observation is the position (x, y), the action a step of at most `STEP`, the goal a place
within `RADIUS` of which the episode ends. `step` and `reached` work on a batch of positions;
the gymnasium environment wraps them for one, `rollout` runs any number of episodes in lock step.
"""

from dataclasses import dataclass
from typing import ClassVar

import gymnasium
import numpy as np

from ttlib.envs.rooms import FOUR_ROOMS

STEP = 0.4  # length of the longest step
RADIUS = 0.3  # a goal is reached within this distance, if no wall is between
APART = 1.0  # a start and its goal are at least this far from each other
MAX_STEPS = 100
PURPOSES = ("demonstrations", "validation", "evaluation")


def step(rooms, positions, actions):
    """Next positions (E, 2) after `actions` (E, 2) in `positions` (E, 2) of the map `rooms`.

    An action longer than 1 is shortened to 1, and moves by `STEP` times it. At a wall the move
    slides, see `Rooms.move`.
    """
    actions = np.asarray(actions, dtype=float)
    length = np.linalg.norm(actions, axis=-1, keepdims=True)
    return rooms.move(positions, STEP * actions / np.maximum(length, 1))


def reached(rooms, positions, goals, radius=RADIUS):
    """(E,) whether each of `positions` (E, 2) is within `radius` of its goal and can see it."""
    return (np.linalg.norm(goals - positions, axis=-1) <= radius) & rooms.visible(positions, goals)


def pairs(rooms, count, seed, purpose="evaluation"):
    """Starts and goals, both (count, 2), uniform over the free ground and at least `APART` from each other.

    The pairs of the three purposes come from separate random streams, so what is evaluated
    is never what was demonstrated, whatever the seeds are.

    Raises:
        ValueError: no such purpose, or hardly two places of the map are so far apart.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"there are no pairs for {purpose!r}; there are pairs for {', '.join(PURPOSES)}.")
    rng = np.random.default_rng([PURPOSES.index(purpose), seed])
    found = np.empty((0, 4))
    for _ in range(1000):
        if len(found) >= count:
            return found[:count, :2], found[:count, 2:]
        drawn = np.concatenate([rooms.sample(rng, 2 * count), rooms.sample(rng, 2 * count)], axis=1)
        found = np.concatenate([found, drawn[np.linalg.norm(drawn[:, 2:] - drawn[:, :2], axis=1) >= APART]])
    raise ValueError(f"too few places of this map are {APART} apart for starts and goals to be drawn.")


class FourRooms(gymnasium.Env):
    """One agent in four rooms, or in any other `Rooms`.

    Observation: position (2,) float32. Action: (2,) in [-1, 1], see `step`. Reward: 1 where the
    goal is reached, which ends the episode, else 0. After `max_steps` it is truncated.
    `info["goal"]` is the goal's place. `reset(options={"start": (x, y), "goal": (x, y)})` places
    either or both; what is not placed is drawn.

    Raises:
        ValueError: an unknown option, a place in a wall, an action that is not two finite numbers.
    """

    metadata: ClassVar[dict] = {"render_modes": []}

    def __init__(self, rooms=FOUR_ROOMS, max_steps=MAX_STEPS, render_mode=None):
        if render_mode is not None:
            raise ValueError(f"four rooms has no render mode {render_mode!r}; draw paths with ttlib.plots instead.")
        self.rooms, self.max_steps, self.render_mode = rooms, max_steps, render_mode
        self.observation_space = gymnasium.spaces.Box(
            np.zeros(2, np.float32), np.array(rooms.size, np.float32), dtype=np.float32
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        self.position = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        options = dict(options or {})
        if unknown := sorted(set(options) - {"start", "goal"}):
            raise ValueError(f"four rooms has no option {unknown[0]!r}; there are 'start' and 'goal'.")
        placed = {key: self._place(key, options[key]) for key in ("start", "goal") if options.get(key) is not None}
        if len(placed) == 2 and reached(self.rooms, placed["start"], placed["goal"]):
            raise ValueError(f"the start is already within {RADIUS} of the goal; place them farther apart.")
        for _ in range(1000):
            start, goal = (
                placed[key] if key in placed else self.rooms.sample(self.np_random, 1)[0] for key in ("start", "goal")
            )
            if len(placed) == 2 or np.linalg.norm(goal - start) >= APART:
                break
        else:
            raise ValueError(f"no start and goal {APART} apart were found in this map; place both with the options.")
        self.position, self.goal, self.steps = start, goal, 0
        return self._observation(), {"goal": goal.astype(np.float32)}

    def step(self, action):
        if self.position is None:
            raise ValueError("call reset before the first step.")
        action = np.asarray(action, dtype=float)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"an action is two finite numbers, not {action.tolist()!r}.")
        self.position = step(self.rooms, self.position[None], action[None])[0]
        self.steps += 1
        done = bool(reached(self.rooms, self.position, self.goal))
        truncated = not done and self.steps >= self.max_steps
        return self._observation(), float(done), done, truncated, {"goal": self.goal.astype(np.float32)}

    def _place(self, key, value):
        try:
            point = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            point = np.empty(0)
        if point.shape != (2,):
            raise ValueError(f"the {key} is two numbers (x, y), not {value!r}.")
        return self.rooms.check(point, key)

    def _observation(self):
        return self.position.astype(np.float32)


@dataclass
class Paths:
    """What `rollout` saw.

    Attributes:
        positions: (T + 1, E, 2) where each episode was; it stays where it reached its goal.
        lengths: (E,) steps taken.
        reached: (E,) bool.
        goals: (E, 2).
    """

    positions: np.ndarray
    lengths: np.ndarray
    reached: np.ndarray
    goals: np.ndarray

    def path(self, episode):
        """(length + 1, 2) the places of one episode, start and end included."""
        return self.positions[: self.lengths[episode] + 1, episode]

    def ratios(self, rooms):
        """(E,) length of each path and of the rest of the way to its goal, over the shortest; inf if not reached.

        The rest is the straight line from where the episode ended to the middle of the goal,
        so ending early within the radius gains nothing, and no ratio is below 1.
        """
        walked = np.linalg.norm(np.diff(self.positions, axis=0), axis=-1).sum(axis=0)
        rest = np.linalg.norm(self.goals - self.positions[-1], axis=-1)
        return np.where(self.reached, (walked + rest) / rooms.shortest(self.positions[0], self.goals), np.inf)


def rollout(controller, rooms, starts, goals, max_steps=MAX_STEPS):
    """Run one episode from each of `starts` (E, 2) until it reaches its goal (E, 2); all of them in one batch.

    Args:
        controller: such as `ttlib.control.LikelihoodController`; what it knows of the goals was
            given to it before. Episodes that have ended are dropped from it.

    Returns:
        `Paths`.
    """
    positions = [rooms.check(starts, "start").astype(np.float32).astype(float)]
    goals = rooms.check(goals, "goal")
    done, lengths = reached(rooms, positions[0], goals), np.zeros(len(goals), dtype=int)
    controller.reset(len(goals))
    if done.any():
        controller.drop(~done)
    while not done.all() and len(positions) <= max_steps:
        going, here = np.flatnonzero(~done), positions[-1].copy()
        here[going] = step(rooms, here[going], controller.act(here[going].astype(np.float32)))
        positions.append(here)
        lengths[going] += 1
        ended = reached(rooms, here[going], goals[going])
        controller.observe(ended.astype(np.float32))
        if ended.any():
            controller.drop(~ended)
            done[going[ended]] = True
    return Paths(np.array(positions), lengths, done, goals)
