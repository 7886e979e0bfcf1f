"""Demonstrations in four rooms: an agent that walks to goals, well enough and never twice the same.

It knows the map and heads for the nearest way around the corners, but each episode keeps its
own distance from them (a habit), its heading drifts and its pace varies. Nobody tells the
model which goals it had: the last place of a recording becomes its goal.
"""

from dataclasses import dataclass

import numpy as np

from ttlib.envs.four_rooms import MAX_STEPS, STEP, pairs, reached, step
from ttlib.envs.rooms import FOUR_ROOMS, Rooms, all_pairs, reach
from ttlib.trajectories import Trajectories

HABITS = 16  # different sets of waypoints


@dataclass
class Walker:
    """The goal-reaching agent, for a batch of episodes.

    Attributes:
        rooms: the map it walks in.
        heading: standard deviation of the drift of its heading, in radians.
        memory: how much of the drift stays from one step to the next, in [0, 1).
        pace: mean and standard deviation of its steps, as shares of the longest.
        clearance: least and largest distance along x and y that its waypoints keep from a corner.
        arrival: it stops within this distance of its goal. This is less than the `RADIUS` that
            counts, so that last places lie everywhere where goals lie, also close to walls.
    """

    rooms: Rooms = FOUR_ROOMS
    heading: float = 0.3
    memory: float = 0.7
    pace: tuple = (0.85, 0.1)
    clearance: tuple = (0.2, 0.5)
    arrival: float = 0.1

    def prepare(self, goals, rng):
        """Choose each episode's waypoints for its goal (E, 2); `rng` is used from here on."""
        self.goals, self.rng, self.drift = goals, rng, np.zeros(len(goals))
        habits = [self._habit() for _ in range(HABITS)]
        habit = rng.integers(HABITS, size=len(goals))
        self.waypoints = np.stack([points for points, _ in habits])[habit]
        between = np.stack([distances for _, distances in habits])[habit]
        last = reach(self.rooms, goals, self.waypoints)
        self.remaining = (between + last[:, None, :]).min(axis=-1, initial=np.inf)

    def act(self, positions, keep):
        """Actions (K, 2) for the episodes `keep` (K,) that are at `positions` (K, 2)."""
        goals = self.goals[keep]
        straight = self.rooms.visible(positions, goals)
        target = goals.copy()
        if not straight.all():
            waypoints = self.waypoints[keep[~straight]]
            ways = reach(self.rooms, positions[~straight], waypoints) + self.remaining[keep[~straight]]
            target[~straight] = waypoints[np.arange(len(waypoints)), ways.argmin(axis=1)]
        to_target = target - positions
        distance = np.linalg.norm(to_target, axis=1)
        fresh = self.rng.normal(scale=self.heading, size=len(keep))
        self.drift[keep] = self.memory * self.drift[keep] + np.sqrt(1 - self.memory**2) * fresh
        angle = np.arctan2(to_target[:, 1], to_target[:, 0]) + self.drift[keep]
        pace = np.clip(self.rng.normal(*self.pace, size=len(keep)), 0.3, 1.0)
        # It goes past a waypoint, but not past its goal.
        pace = np.where(straight, np.minimum(pace, distance / STEP), pace)
        return pace[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def _habit(self):
        """Waypoints (C, 2) near the corners, and the lengths (C, C) of the ways between them."""
        corners, rooms = self.rooms.corners, self.rooms
        points = corners.copy()
        for share in (1.0, 0.5, 0.25, 0.1):  # where there is less room, it comes closer
            for outward in np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)]):
                moved = corners + share * outward * self.rng.uniform(*self.clearance, size=corners.shape)
                behind = ~rooms.visible(corners - 1e-3 * outward, corners)  # the corner's own wall
                fits = behind & ~rooms.blocked(moved) & rooms.visible(corners, moved)
                points = np.where((fits & (points == corners).all(axis=1))[:, None], moved, points)
        return points, all_pairs(rooms, points)


def collect(transitions=400_000, seed=0, rooms=FOUR_ROOMS, walker=None, batch=2000):
    """Walk between uniformly random starts and goals until at least `transitions` steps are recorded.

    Each recording holds every place from the start to the one where the goal was reached, with
    the action the agent chose there; so its last observation is its goal. All rewards are zero.

    Every episode ends as a *timeout*, also one that reached its goal. In these data nothing
    ends: the recording stops, and the place where it stops is called the goal afterwards. A
    terminal would have the model predict stop tokens at the goal, which have no action in them
    and would draw a search for likely sequences; after a timeout it is asked to predict nothing.

    Args:
        transitions: whole episodes are kept, so there are up to one episode more.
        seed: of the pairs and of the noise.
        walker: a `Walker`; the one of the map `rooms` if left out.

    Returns:
        `Trajectories` with 2-D observations and 2-D actions.
    """
    if transitions < 2:
        raise ValueError(f"demonstrations need at least 2 transitions, not {transitions}.")
    walker, rng, episodes, total = walker or Walker(rooms), np.random.default_rng([99, seed]), [], 0
    while total < transitions:
        starts, goals = pairs(rooms, batch, int(rng.integers(2**62)), "demonstrations")
        for observations, actions in walk(walker, starts, goals, rng):
            if total >= transitions:
                break
            episodes.append(
                {"observations": observations, "actions": actions, "rewards": np.zeros(len(actions)), "terminal": False}
            )
            total += len(actions)
    return Trajectories.from_episodes(episodes, name="local:four-rooms", env_id="FourRooms-v0")


def walk(walker, starts, goals, rng, max_steps=MAX_STEPS):
    """One recording (places (L, 2), actions (L, 2)) for each of `starts` and `goals` (E, 2), in their order."""
    walker.prepare(goals, rng)
    position, active, lengths = starts.copy(), np.arange(len(starts)), np.zeros(len(starts), dtype=int)
    places, actions = (np.zeros((max_steps, len(starts), 2), dtype=np.float32) for _ in range(2))
    for t in range(max_steps):
        places[t, active] = position[active]
        actions[t, active] = walker.act(position[active], active)
        lengths[active] = t + 1
        going = ~reached(walker.rooms, position[active], goals[active], walker.arrival)
        position[active] = step(walker.rooms, position[active], actions[t, active])
        active = active[going]
        if not len(active):
            break
    return [(places[:length, e], actions[:length, e]) for e, length in enumerate(lengths)]
