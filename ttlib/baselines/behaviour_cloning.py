"""Behaviour cloning: do what the data did (BC), or what the best tenth of it did (10%-BC).

A policy is fitted to the recorded actions by maximum likelihood; rewards are used, if at
all, to choose the trajectories. What a method scores above 10%-BC is what it gained
by more than imitating the good part of its data.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ttlib.baselines import common
from ttlib.baselines.common import Settings, Standardize, mlp


class Policy(nn.Module):
    """A Gaussian over actions: its mean a network that ends in tanh, its spread the same in every state.

    Args:
        observation, action: dimensions N and M; actions lie in [-1, 1].
        hidden: widths of the hidden layers.
    """

    kind = "a Gaussian policy"

    def __init__(self, observation, action, hidden=(256, 256)):
        super().__init__()
        self.observation, self.action, self.hidden = observation, action, tuple(hidden)
        self.standardize = Standardize(observation)
        self.net = mlp(observation, action, hidden)
        self.log_std = nn.Parameter(torch.zeros(action))

    def size(self):
        """What `load_model` needs to build the same policy, as plain values."""
        return {"observation": self.observation, "action": self.action, "hidden": list(self.hidden)}

    def forward(self, observations):
        """The mean action (..., M) for observations (..., N)."""
        return torch.tanh(self.net(self.standardize(observations)))

    def log_likelihood(self, observations, actions):
        """(...) log density of actions (..., M), nats."""
        log_std = self.log_std.clamp(-5, 2)  # the limits of IQL's authors
        distance = (actions - self(observations)) / log_std.exp()
        return -(0.5 * distance**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=-1)


class PolicyController:
    """Enacts a policy's mean action; `ttlib.evaluation.evaluate` runs it in many environments at once.

    Args:
        policy: a `Policy`.
    """

    def __init__(self, policy):
        self.policy = policy.eval()

    def reset(self, episodes):
        """A policy remembers nothing, so there is nothing to forget."""

    def act(self, observations):
        """Actions (E, M) float32 for observations (E, N), both numpy arrays."""
        if observations.shape[1] != self.policy.observation:
            raise ValueError(
                f"the environment has {observations.shape[1]} observation dimensions, the policy "
                f"{self.policy.observation}; use the environment that its data came from."
            )
        with torch.inference_mode():
            seen = torch.as_tensor(observations, dtype=torch.float32, device=self.policy.log_std.device)
            return self.policy(seen).cpu().numpy()

    def observe(self, rewards):
        """Rewards do not change what a policy does."""

    def drop(self, going):
        """There is nothing to forget of the episodes that ended."""


def best_trajectories(trajectories, share=0.1):
    """The `share` of the trajectories with the largest returns, at least one, in their old order.

    The tenth is counted in trajectories. Chen et al. (2021) count time steps, which takes
    fewer trajectories where the best ones are the longest.
    """
    count = max(1, int(share * len(trajectories.lengths)))
    best = np.argsort(-trajectories.returns, kind="stable")[:count]
    kept = np.repeat(np.isin(np.arange(len(trajectories.lengths)), best), trajectories.lengths)
    keys = ("observations", "actions", "rewards", "terminals", "timeouts")
    return replace(trajectories, **{key: getattr(trajectories, key)[kept] for key in keys})


def check_actions(trajectories):
    """Raise ValueError unless every action lies in [-1, 1], where a tanh can reach it."""
    largest = float(np.abs(trajectories.actions).max())
    if largest > 1.001:
        raise ValueError(f"{trajectories.name or 'the data'} has an action of size {largest:.3g}; rescale to [-1, 1].")


def train(trajectories, settings=None, share=1.0, folder=None, on_log=None, device="cpu"):
    """Clone the behaviour of `trajectories`, or of the best `share` of them.

    Args:
        settings: `Settings`; the defaults if left out.
        folder, on_log: see `common.train`.

    Returns:
        `Policy`, curve.

    Raises:
        ValueError: an action lies outside of [-1, 1], or the folder holds another run.
    """
    settings = settings or Settings()
    check_actions(trajectories)
    if share < 1:
        trajectories = best_trajectories(trajectories, share)
    torch.manual_seed(settings.seed)
    policy = Policy(trajectories.observation_dim, trajectories.action_dim, settings.hidden)
    policy.standardize.fit(trajectories.observations)
    policy.to(device)
    observations = torch.tensor(trajectories.observations, device=device)
    actions = torch.tensor(trajectories.actions, device=device)

    def losses(rows):
        return {"policy": -policy.log_likelihood(observations[rows], actions[rows]).mean()}

    run = {"method": "bc", "share": share, "data": trajectories.fingerprint()}
    return policy, common.train(policy, losses, len(actions), settings, policy, folder, on_log, run)
