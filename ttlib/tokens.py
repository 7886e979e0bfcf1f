"""Tokens: how a transition becomes a row of integers, and a trajectory a sequence (section 2).

    transition   s^1 .. s^N   a^1 .. a^M   r   R        one slot a dimension
    sequence     [goal tokens]  transition 1  transition 2  ...

Each slot has its own bins and, in the model, its own range of the vocabulary. The
token V, which no bin has, stands in every slot of what follows after an episode's end.
"""

from copy import copy
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from ttlib import checkpoints, discretize
from ttlib.discretize import Bins


@dataclass(frozen=True)
class Layout:
    """The slots of a transition and of the goal before them.

    Attributes:
        observation: N, the dimensions of an observation.
        action: M, the dimensions of an action.
        values: whether reward and reward-to-go follow (offline RL) or not (imitation, goals).
        goal: how many leading observation dimensions make a goal (0: none).
    """

    observation: int
    action: int
    values: bool = True
    goal: int = 0

    @property
    def transition(self):
        """Tokens in one transition."""
        return self.observation + self.action + 2 * self.values

    @property
    def actions(self):
        """The slots of the action."""
        return slice(self.observation, self.observation + self.action)

    @property
    def observations(self):
        """The slots of the observation."""
        return slice(0, self.observation)

    @property
    def reward(self):
        """The slot of r; R has the one after it."""
        return self.observation + self.action

    @property
    def value_slot(self):
        """The slot of R, or None. R knows the future, so nothing may attend to it."""
        return self.transition - 1 if self.values else None

    def length(self, transitions):
        """Tokens in a sequence of whole transitions, goal included."""
        return self.goal + transitions * self.transition

    def is_value(self, position):
        """Whether `position` of a sequence holds a reward-to-go."""
        return self.values and position >= self.goal and (position - self.goal) % self.transition == self.value_slot


@dataclass
class Tokenizer:
    """Bins for each slot of a layout.

    Attributes:
        layout: the slots.
        bins: `Bins` with one row a slot of the transition.
        discount: of the rewards-to-go.
        terminal_reward: what replaces the reward of a true terminal (the reference
            code's -100 makes falling visible in R), or None to leave it.
        method: how the bins were fitted.
        env_id: the environment of the data, "" if unknown; models are evaluated in no other version of it.
    """

    layout: Layout
    bins: Bins
    discount: float = 0.99
    terminal_reward: float | None = None
    method: str = "quantile"
    env_id: str = ""

    @classmethod
    def fit(cls, trajectories, bins=100, method="quantile", values=True, goal=0, discount=0.99, terminal_reward=None):
        """Fit bins to `trajectories`; see the attributes for the arguments."""
        layout = Layout(trajectories.observation_dim, trajectories.action_dim, values, goal)
        tokenizer = cls(layout, None, discount, terminal_reward, method, trajectories.env_id)
        tokenizer.bins = discretize.fit(tokenizer.columns(trajectories), bins, method)
        return tokenizer

    def to(self, device):
        """The same tokenizer, whose tokens lie on `device`."""
        return replace(self, bins=self.bins.to(device))

    @property
    def stop(self):
        """The stop token, V."""
        return self.bins.size

    def columns(self, trajectories):
        """(T, transition) float32: s, a and, if the layout has them, r and R side by side."""
        self.check(trajectories.observation_dim, trajectories.action_dim)
        parts = [trajectories.observations, trajectories.actions]
        if self.layout.values:
            rewards = trajectories.rewards
            if self.terminal_reward is not None:
                rewards = np.where(trajectories.terminals, np.float32(self.terminal_reward), rewards)
            to_go = trajectories.rewards_to_go(self.discount, rewards)
            parts += [rewards[:, None], to_go[:, None]]
        return np.concatenate(parts, axis=1)

    def check(self, observation_dim, action_dim):
        """Raise ValueError unless the dimensions are the ones this tokenizer was fitted to."""
        ours = (self.layout.observation, self.layout.action)
        if (observation_dim, action_dim) != ours:
            raise ValueError(
                f"this tokenizer is for {ours[0]} observation and {ours[1]} action dimensions, the data has "
                f"{observation_dim} and {action_dim}; use the data set or environment that its checkpoint names."
            )

    def encode(self, trajectories):
        """(T, transition) int64 tokens."""
        return self.bins.encode(self.columns(trajectories))

    def describe(self):
        """What `restore` needs beside the edges, as plain values for JSON."""
        return {
            "layout": asdict(self.layout),
            "discount": self.discount,
            "terminal_reward": self.terminal_reward,
            "method": self.method,
            "env_id": self.env_id,
        }

    @classmethod
    def restore(cls, edges, description):
        """The tokenizer with these edges and this description."""
        settings = {key: value for key, value in description.items() if key != "layout"}
        return cls(Layout(**description["layout"]), Bins(edges), **settings)


class TokenWindows:
    """What the model trains on: for every step, the sequence of transitions that starts there.

    A window that runs past its episode's end is filled with stop tokens. After a
    terminal they are something to predict and count in the loss; after a timeout they
    only fill, since nobody knows how the episode would have gone on.

    Args:
        tokenizer: a fitted `Tokenizer`.
        trajectories: the data.
        transitions: the window's length.
        goals: (E, goal) the episodes' goals; each episode's last observation if left out.
        beginnings: how many more windows begin where each episode does. Without, an episode's first step is in one
            window and a later one in as many as a window has steps, so that what is decided first is read least.
        timeout_margin: how many steps before a timeout a reward-to-go is nothing to predict. It lacks what would have
            come after the recording, discount^n of it n steps before: with 0.99 at 230 steps a tenth. How long an
            episode has been recorded no state tells, so that to the model this is noise. 0: all count, as in the
            reference code.

    Raises:
        ValueError: a margin below 0, without rewards-to-go to leave out, or that would leave none.
    """

    group = 1  # how many neighbours training always takes together

    def __init__(self, tokenizer, trajectories, transitions=10, goals=None, beginnings=0, timeout_margin=0):
        self.layout, self.transitions, self.stop = tokenizer.layout, transitions, tokenizer.stop
        self.bins = tokenizer.bins.size
        self.tokens = tokenizer.encode(trajectories).to("cpu", torch.int16)  # `to` moves all together
        bounds = torch.from_numpy(trajectories.bounds)
        episode = torch.repeat_interleave(torch.arange(len(bounds)), bounds[:, 1] - bounds[:, 0])
        self.end = bounds[episode, 1]
        steps = torch.arange(len(episode))
        self.starts = torch.cat([steps, bounds[:, 0].repeat(beginnings)])
        self.terminal = torch.from_numpy(trajectories.terminals[trajectories.bounds[:, 1] - 1])[episode]
        self.timeout_margin = timeout_margin
        if timeout_margin < 0:
            raise ValueError(f"a margin of {timeout_margin} steps before a timeout is below 0.")
        if timeout_margin and not self.layout.values:
            raise ValueError("a timeout's margin is of rewards-to-go, and these transitions have none.")
        if self._is_cut_off(steps, steps).all():
            raise ValueError(f"no step lies more than {timeout_margin} steps before a timeout; take a smaller margin.")
        self.goal = None
        if self.layout.goal:
            if goals is None:
                goals = trajectories.observations[trajectories.bounds[:, 1] - 1, : self.layout.goal]
            self.goal = tokenizer.bins.encode(goals, slice(0, self.layout.goal)).to("cpu", torch.int16)[episode]

    def __len__(self):
        return len(self.starts)

    def fingerprint(self):
        """Short hash of all that windows are cut from: those with the same one are the same."""
        margin = torch.tensor(self.timeout_margin) if self.timeout_margin else None
        parts = (self.tokens, self.end, self.starts, self.terminal, self.goal, margin)
        return checkpoints.fingerprint(*(part for part in parts if part is not None))

    def to(self, device):
        """The same windows, cut on `device`."""
        moved = copy(self)
        for name in ("tokens", "starts", "end", "terminal", "goal"):
            value = getattr(self, name)
            setattr(moved, name, None if value is None else value.to(device))
        return moved

    def cut(self, transitions):
        """The first `transitions` of each window."""
        short = copy(self)
        short.transitions = transitions
        return short

    def batch(self, chosen):
        """The windows with the numbers `chosen` (B,): window i begins at step i, further ones where episodes do.

        Returns:
            tokens: (B, goal + transitions * transition) int64.
            counted: the same shape, bool: which tokens are to be predicted. The goal is given, so is not.
        """
        starts = self.starts[torch.as_tensor(chosen, device=self.end.device)]
        steps = starts[:, None] + torch.arange(self.transitions, device=starts.device)
        inside = steps < self.end[starts, None]
        tokens = self.tokens[steps.clamp(max=len(self.tokens) - 1)].long()
        tokens = torch.where(inside[..., None], tokens, self.stop).flatten(1)
        counted = (inside | self.terminal[starts, None]).repeat_interleave(self.layout.transition, dim=1)
        if self.timeout_margin:
            counted[:, self.layout.value_slot :: self.layout.transition] &= ~self._is_cut_off(starts[:, None], steps)
        if self.goal is not None:
            goal = self.goal[starts].long()
            tokens = torch.cat([goal, tokens], dim=1)
            counted = torch.cat([torch.zeros_like(goal, dtype=torch.bool), counted], dim=1)
        return tokens, counted

    def _is_cut_off(self, starts, steps):
        """Whether the reward-to-go of `steps`, in windows that begin at `starts`, lacks too much of its end."""
        return ~self.terminal[starts] & (steps >= self.end[starts] - self.timeout_margin)
