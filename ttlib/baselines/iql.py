"""Implicit Q-learning: dynamic programming that never asks for an action the data has not (Kostrikov et al. 2022).

    python -m ttlib.baselines.iql --dataset local:pointmaze-medium-stitch --out pointmaze-medium-stitch-iql.safetensors

Three regressions at once, on the recorded transitions alone (section 4 of the paper):

    V(s)      the upper expectile, over the actions recorded in s, of Q(s, a)
    Q(s, a)   r + discount * V(s')
    policy    imitates a in s with weight exp(temperature * (Q(s, a) - V(s)))

With expectile 0.5, V is the value of the behaviour that recorded the data; toward 1 it
becomes the value of the best recorded action. As in the authors' code, the lesser of two
critics counts, V and the weights are computed from slow copies of them, and the policy
learns along with both.

How this differs from the authors' code: 1. observations are standardised; 2. the three losses
are computed from the same weights and minimised in one step of Adam, where theirs updates V
first; 3. layers begin as PyTorch's do, not orthogonal; 4. a critic's target keeps V within what any
sum of the recorded rewards can be: without this, values of a large maze of points left [-100, 0]
and the loss of V kept rising. Leaving out the last step of an episode that timed out is what D4RL's
own function for such methods does. The ants collected here have `ttlib.baselines.maze_iql`.
"""

import argparse
import copy
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ttlib.baselines import common
from ttlib.baselines.behaviour_cloning import Policy, check_actions
from ttlib.baselines.common import Settings, Standardize, Transitions, mlp


@dataclass(frozen=True)
class IQLSettings(Settings):
    """The authors' settings for locomotion; `ANTMAZE` are theirs for AntMaze.

    Attributes (beside `Settings`'):
        expectile: tau, which expectile of Q over the recorded actions V is.
        temperature: beta, how much the policy prefers actions with an advantage.
        discount: of the rewards.
        target_rate: share of the way that the slow critics go to the fast ones after each update.
        largest_weight: limit of the policy's weights.
        rewards: how they are rescaled before training, see `rescaling`.
    """

    expectile: float = 0.7
    temperature: float = 3.0
    discount: float = 0.99
    target_rate: float = 0.005
    largest_weight: float = 100.0
    rewards: str = "range"


ANTMAZE = IQLSettings(expectile=0.9, temperature=10.0, rewards="minus one")


def rescaling(trajectories, how):
    """(scale, shift) for "range" (returns span 1,000), "minus one" (r - 1), or "none".

    Raises:
        ValueError: another word, or all returns are equal where their range is to count.
    """
    if how == "range":
        spread = float(np.ptp(trajectories.returns))
        if spread == 0:
            raise ValueError("all returns are equal, so rewards cannot be scaled by their range; use rewards='none'.")
        return 1000.0 / spread, 0.0
    if how in ("minus one", "none"):
        return 1.0, -1.0 if how == "minus one" else 0.0
    raise ValueError(f"rewards can be rescaled by 'range', 'minus one' or 'none', not {how!r}.")


def limits_of(rewards, discount):
    """(least, largest) discounted sum of such rewards (T,), of episodes that may end at any time.

    Raises:
        ValueError: the discount is not from [0, 1), so that such sums have no limits.
    """
    if not 0 <= discount < 1:
        raise ValueError(f"with a discount of {discount} values have no limits; it must be at least 0 and below 1.")
    least, largest = min(float(rewards.min()), 0.0), max(float(rewards.max()), 0.0)
    return least / (1 - discount), largest / (1 - discount)


def expectile_loss(difference, expectile):
    """L_2^tau(u) = |tau - 1(u < 0)| u^2: the mean of it over x - m is least where m is x's tau-expectile."""
    return torch.where(difference < 0, 1 - expectile, expectile) * difference**2


class IQL(nn.Module):
    """Two critics, their slow copies, V, and a policy.

    Args:
        observation, action: dimensions N and M.
        hidden: widths of the hidden layers of each network.
        scale, shift: what the rewards were rescaled by, so values are those of scale * r + shift.
    """

    kind = "an IQL agent"

    def __init__(self, observation, action, hidden=(256, 256), scale=1.0, shift=0.0):
        super().__init__()
        self.observation, self.action, self.hidden = observation, action, tuple(hidden)
        self.scale, self.shift = scale, shift
        self.standardize = Standardize(observation)
        self.critics = nn.ModuleList(mlp(observation + action, 1, hidden) for _ in range(2))
        self.slow_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.v = mlp(observation, 1, hidden)
        self.policy = Policy(observation, action, hidden)

    def size(self):
        """What `load_model` needs to build the same agent, as plain values."""
        names = ("observation", "action", "scale", "shift")
        return {name: getattr(self, name) for name in names} | {"hidden": list(self.hidden)}

    @torch.no_grad()
    def q(self, observations, actions):
        """(...) min(Q1, Q2) of the slow critics for observations (..., N) and actions (..., M).

        Discounted from the reward of this very action on, in rescaled rewards.
        """
        x = torch.cat([self.standardize(observations), actions], dim=-1)
        return torch.minimum(*(critic(x)[..., 0] for critic in self.slow_critics))

    @torch.no_grad()
    def value(self, observations):
        """(...) V for observations (..., N), in rescaled rewards."""
        return self.v(self.standardize(observations))[..., 0]

    def losses(self, batch, settings, limits=(-torch.inf, torch.inf)):
        """The three losses, each of which reaches the parameters of its own networks only; V keeps to the limits."""
        observations, actions, rewards, following, terminals, _ = batch
        x = self.standardize(observations)
        target = rewards + settings.discount * (1 - terminals) * self.value(following).clamp(*limits)
        advantages = self.q(observations, actions) - self.v(x)[..., 0]
        weights = (settings.temperature * advantages.detach()).exp().clamp(max=settings.largest_weight)
        pair = torch.cat([x, actions], dim=-1)
        return {
            "value": expectile_loss(advantages, settings.expectile).mean(),
            "critic": sum(((critic(pair)[..., 0] - target) ** 2).mean() for critic in self.critics),
            "policy": -(weights * self.policy.log_likelihood(observations, actions)).mean(),
        }

    @torch.no_grad()
    def follow(self, rate):
        """Move the slow critics by `rate` of the way to the fast ones."""
        for slow, fast in zip(self.slow_critics.parameters(), self.critics.parameters(), strict=True):
            slow.lerp_(fast, rate)


def train(trajectories, settings=None, folder=None, on_log=None, device="cpu"):
    """Train `IQL` on `trajectories`.

    Args:
        settings: `IQLSettings`; those for locomotion if left out.
        folder, on_log: see `common.train`.

    Returns:
        `IQL`, curve.

    Raises:
        ValueError: an action lies outside of [-1, 1], the rewards cannot be rescaled, or the
            folder holds another run.
    """
    settings = settings or IQLSettings()
    check_actions(trajectories)
    scale, shift = rescaling(trajectories, settings.rewards)
    transitions = Transitions(trajectories, scale, shift, device)
    limits = limits_of(scale * trajectories.rewards + shift, settings.discount)
    torch.manual_seed(settings.seed)
    agent = IQL(trajectories.observation_dim, trajectories.action_dim, settings.hidden, scale, shift)
    for standardize in (agent.standardize, agent.policy.standardize):
        standardize.fit(trajectories.observations)
    agent.to(device)
    curve = common.train(
        agent,
        lambda rows: agent.losses(transitions.batch(rows), settings, limits),
        len(transitions),
        settings,
        agent.policy,
        folder,
        on_log,
        {"method": "iql", "data": trajectories.fingerprint()},
        lambda: agent.follow(settings.target_rate),
    )
    return agent, curve


def settings_for(dataset):
    """The authors' settings for a data set's kind."""
    return ANTMAZE if "maze" in dataset else IQLSettings()


def main():
    parser = argparse.ArgumentParser(description="Train an IQL agent and write its checkpoint.")
    parser.add_argument("--dataset", required=True, help="such as local:antmaze-umaze")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, *.safetensors")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = ("updates", "batch", "seed", "expectile", "temperature", "discount", "target_rate")
    for name in chosen:
        option, kind = f"--{name.replace('_', '-')}", type(getattr(IQLSettings, name))
        parser.add_argument(option, type=kind, help="what suits this kind of data, when left out")
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in chosen if getattr(options, name) is not None}
    try:
        settings = replace(settings_for(options.dataset), **given)
        common.train_from_scratch(
            train, "ttlib.baselines.iql", options.dataset, options.out, settings, options.device, options.folder
        )
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
