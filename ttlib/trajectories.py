"""Trajectories: what every data set becomes.

One flat array a quantity, episode after episode, with the two ways an episode can
end kept apart: a *terminal* is part of the task (the hopper fell), a *timeout* only
ends the recording. Value learning must tell them apart, and so do the stop tokens.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Episodes laid end to end, checked once, read-only afterwards.

    Attributes:
        observations: (T, N) float32, s_t.
        actions: (T, M) float32, a_t.
        rewards: (T,) float32, r_t, earned by a_t in s_t.
        terminals: (T,) bool, the task ended after a_t.
        timeouts: (T,) bool, only the recording ended after a_t.
        name: what `ttlib.datasets.load` was asked for.
        env_id: the gymnasium environment in which models of this data are evaluated, or "".

    An array that stops in the middle of an episode counts as a timeout there. A step
    that is both terminal and timeout is a terminal.

    Raises:
        ValueError: a shape is wrong, a value is not finite, there is nothing in it, or
            an episode has a single step.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    name: str = ""
    env_id: str = field(default="", repr=False)

    def __post_init__(self):
        # Copies, which nobody else can change.
        for key in ("observations", "actions", "rewards"):
            self._set(key, np.array(getattr(self, key), dtype=np.float32, order="C"))
        for key in ("terminals", "timeouts"):
            self._set(key, _flags(key, getattr(self, key)))
        _check_shapes(self)
        _check_finite(self)
        timeouts = self.timeouts & ~self.terminals
        timeouts[-1] = not self.terminals[-1]
        self._set("timeouts", timeouts)
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            getattr(self, key).flags.writeable = False
        short = np.flatnonzero(self.lengths == 1)
        if len(short):
            raise ValueError(
                f"episode {short[0]} (step {self.bounds[short[0], 0]}) has a single step, and {len(short)} such "
                "episodes are here; a trajectory has at least two: leave them out with drop_short_episodes."
            )

    def _set(self, key, value):
        object.__setattr__(self, key, value)

    @classmethod
    def from_episodes(cls, episodes, name="", env_id=""):
        """Join episodes, each a dict of `observations` (L, N), `actions` (L, M), `rewards` (L,), `terminal` (bool).

        `terminal` may also be an (L,) array; then it may be true at the last step only.

        Raises:
            ValueError: there are no episodes, one is empty, or one goes on after its terminal.
        """
        if not episodes:
            raise ValueError("there are no episodes to join.")
        for number, episode in enumerate(episodes):
            if len(episode["rewards"]) == 0:
                raise ValueError(f"episode {number} is empty; leave it out.")
            if np.any(np.atleast_1d(episode["terminal"])[:-1]):
                step = int(np.flatnonzero(episode["terminal"])[0])
                raise ValueError(f"episode {number} goes on after its terminal at step {step}; split it there.")
        ends = np.cumsum([len(episode["rewards"]) for episode in episodes]) - 1
        terminals = np.zeros(ends[-1] + 1, dtype=bool)
        terminals[ends] = [bool(np.atleast_1d(episode["terminal"])[-1]) for episode in episodes]
        timeouts = np.zeros_like(terminals)
        timeouts[ends] = ~terminals[ends]
        keys = ("observations", "actions", "rewards")
        joined = {key: np.concatenate([episode[key] for episode in episodes]) for key in keys}
        return cls(**joined, terminals=terminals, timeouts=timeouts, name=name, env_id=env_id)

    def __len__(self):
        return len(self.rewards)

    @property
    def observation_dim(self):
        return self.observations.shape[1]

    @property
    def action_dim(self):
        return self.actions.shape[1]

    @cached_property
    def bounds(self):
        """(E, 2) int64: first step and one past the last step of each episode."""
        stops = np.flatnonzero(self.terminals | self.timeouts) + 1
        return np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1)

    @property
    def lengths(self):
        """(E,) steps in each episode."""
        return self.bounds[:, 1] - self.bounds[:, 0]

    @property
    def returns(self):
        """(E,) undiscounted sum of the rewards of each episode."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.bounds[:, 0])

    def rewards_to_go(self, discount=0.99, rewards=None):
        """(T,) R_t = sum over t' > t of discount^(t'-t-1) r_t', within the episode.

        The paper (section 2) sums from t; its code, which we follow, from t + 1, since
        r_t has a token of its own. There is no bootstrap at a timeout.

        Args:
            discount: in [0, 1].
            rewards: (T,) used in place of the recorded ones.
        """
        rewards = (self.rewards if rewards is None else rewards).astype(np.float64)
        ends = self.terminals | self.timeouts
        to_go = np.zeros(len(rewards))
        for t in range(len(rewards) - 2, -1, -1):
            if not ends[t]:
                to_go[t] = rewards[t + 1] + discount * to_go[t + 1]
        return to_go.astype(np.float32)

    def fingerprint(self):
        """Short hash of all values: two data sets with the same one are the same."""
        digest = hashlib.sha256()
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            digest.update(getattr(self, key).tobytes())
        return digest.hexdigest()[:16]


def drop_short_episodes(arrays, shortest=2):
    """Leave out the episodes with fewer than `shortest` steps.

    Args:
        arrays: dict with `terminals` and `timeouts` (T,) and any other (T, ...) arrays.

    Returns:
        The same dict with the steps of short episodes removed from each array.
    """
    ends = np.asarray(arrays["terminals"], dtype=bool) | np.asarray(arrays["timeouts"], dtype=bool)
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    keep = np.bincount(episode)[episode] >= shortest
    return {key: np.asarray(array)[keep] for key, array in arrays.items()}


def _flags(key, values):
    values = np.asarray(values)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{key} holds values other than 0 and 1.")
    return np.array(values, dtype=bool)


def _check_shapes(t):
    if t.observations.ndim != 2 or t.actions.ndim != 2:
        raise ValueError(
            f"observations and actions are (steps, dimensions) arrays; here they have the shapes "
            f"{t.observations.shape} and {t.actions.shape}."
        )
    if len(t.rewards) == 0:
        raise ValueError("there is no step in this data.")
    for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
        array = getattr(t, key)
        if len(array) != len(t.rewards) or (array.ndim != 1 and key in ("rewards", "terminals", "timeouts")):
            raise ValueError(f"{key} has the shape {array.shape}, but there are {len(t.rewards)} rewards.")


def _check_finite(t):
    for key in ("observations", "actions", "rewards"):
        bad = np.argwhere(~np.isfinite(getattr(t, key)))
        if len(bad):
            first = tuple(bad[0].tolist())
            raise ValueError(f"{key} holds {len(bad)} values that are not finite, the first at {first}.")
