"""Implicit Q-learning: dynamic programming that never asks for an action the data has not (Kostrikov et al. 2022).

    python -m ttlib.baselines.iql --dataset local:antmaze-umaze --out data/checkpoints/antmaze-umaze-iql.safetensors

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
and the loss of V kept rising; 5. with `n_step` above 1, for the ants collected here, a target sums
so many recorded rewards, V is the expectile of such targets themselves, and the policy's weights
are their advantages over V. That supposes a world without chance, where what a stretch came to was
due to its actions. An ant's single action, of a twentieth of a second, says little about where it
is going. Leaving out the last step of an episode that timed out is what D4RL's own function for
such methods does.
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
from ttlib.datasets import load
from ttlib.paths import ROOT
from ttlib.progress import progress
from ttlib.provenance import how_trained


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
        n_step: recorded steps between s and s'. Beyond 1, V and the policy's weights compare what such stretches of
            the data came to, instead of Q of single actions.
        place_unit: metres that x and y, an observation's first two numbers, are divided by; 0: by their spread, as
            the other numbers are. Over a maze that is so wide that networks hardly see the goal, a disc of 0.5 m.

    Raises:
        ValueError: `n_step` below 1, or a unit below 0.
    """

    expectile: float = 0.7
    temperature: float = 3.0
    discount: float = 0.99
    target_rate: float = 0.005
    largest_weight: float = 100.0
    rewards: str = "range"
    n_step: int = 1
    place_unit: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.n_step < 1 or self.place_unit < 0:
            raise ValueError(f"n_step, {self.n_step}, is at least 1, and place_unit, {self.place_unit}, at least 0.")


ANTMAZE = IQLSettings(expectile=0.9, temperature=10.0, rewards="minus one")
# For the ant mazes collected here, whose ants decide twice as often as D4RL's: the same discount a second, and slow
# copies that follow faster, for a tenth of the updates. The rest was chosen by the policy's success on other episodes
# than the study's: of 50 in medium-play, after 50,000 updates, with places in metres, 20% come through with single
# steps and 36% with stretches of ten; 44% in units of 0.3 m; 26% with places standardised; 42% with metres and a
# temperature of 3 instead of 10. Stretches of 25 (28%), a discount of 0.998 (22%) and an expectile of 0.9 (12%), all in
# metres and with a temperature of 10, did worse; 0.998 in units of 0.3 m and with 0.3, as for the large maze, does as
# well (56%).
LOCAL_ANTMAZE = replace(
    ANTMAZE, expectile=0.7, temperature=3.0, discount=0.995, target_rate=0.02, n_step=10, place_unit=0.3
)
# At the speed of the data, the way through the large maze takes an ant 640 steps: with a discount of 0.995 hardly any
# value is left at its beginning to tell directions by, and 4% come through, after 100,000 updates. With 0.998 all
# differences of V are larger, so the temperature is lower: of 50 other episodes than the study's in large-play, after
# 50,000 updates, none, 22% and 6% come through with 0.1, 0.3 and 1; with 0.3 14% with another seed, and again only 4%
# after 100,000 updates.
LOCAL_LARGE = replace(LOCAL_ANTMAZE, discount=0.998, temperature=0.3, updates=50_000)


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
    """(least, largest) discounted sum of such rewards (T,), of episodes that may end at any time; discount < 1."""
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
        observations, actions, rewards, following, terminals, passed = batch
        x = self.standardize(observations)
        onward = settings.discount**passed * (1 - terminals)
        target = rewards + onward * self.value(following).clamp(*limits)
        compared = self.q(observations, actions) if settings.n_step == 1 else target
        advantages = compared - self.v(x)[..., 0]
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
    transitions = Transitions(trajectories, scale, shift, device, settings.n_step, settings.discount)
    limits = limits_of(scale * trajectories.rewards + shift, settings.discount)
    torch.manual_seed(settings.seed)
    agent = IQL(trajectories.observation_dim, trajectories.action_dim, settings.hidden, scale, shift)
    for standardize in (agent.standardize, agent.policy.standardize):
        standardize.fit(trajectories.observations)
        if settings.place_unit:
            standardize.std[:2] = settings.place_unit
    agent.to(device)
    curve = common.train(
        agent,
        lambda rows: agent.losses(transitions.batch(rows), settings, limits),
        len(transitions),
        settings,
        agent.policy,
        folder,
        on_log,
        {"method": "iql"},
        lambda: agent.follow(settings.target_rate),
    )
    return agent, curve


def settings_for(dataset):
    """The settings for a data set: those above for ant mazes collected here, else the authors' for its kind."""
    if dataset.startswith("local:antmaze-large"):
        return LOCAL_LARGE
    if dataset.startswith("local:antmaze"):
        return LOCAL_ANTMAZE
    return ANTMAZE if "maze" in dataset else IQLSettings()


def train_from_scratch(dataset, out, settings, device="cpu", folder=None):
    """What the command line does: load a data set, train an agent, write it to `out`; gives agent and curve.

    Args:
        dataset: a name for `ttlib.datasets.load`.
        folder: where the run is kept and resumed from; by default a cache named after `out`.
    """
    trajectories = load(dataset)
    bar = progress(total=settings.updates, label=f"training on {dataset}")
    folder = folder or ROOT / "data/cache/training" / Path(out).stem
    agent, curve = train(trajectories, settings, folder, lambda row: bar.update(row["step"] - bar.n), device)
    bar.close()
    about = {"dataset": dataset, "env_id": trajectories.env_id, "fingerprint": trajectories.fingerprint()}
    common.save_model(out, agent, about | how_trained("ttlib.baselines.iql", curve, settings))
    return agent, curve


def main():
    parser = argparse.ArgumentParser(description="Train an IQL agent and write its checkpoint.")
    parser.add_argument("--dataset", required=True, help="such as local:antmaze-umaze")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, *.safetensors")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = ("updates", "batch", "seed", "expectile", "temperature", "discount", "target_rate", "n_step", "place_unit")
    for name in chosen:
        option, kind = f"--{name.replace('_', '-')}", type(getattr(IQLSettings, name))
        parser.add_argument(option, type=kind, help="what suits this kind of data, when left out")
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in chosen if getattr(options, name) is not None}
    try:
        settings = replace(settings_for(options.dataset), **given)
        train_from_scratch(options.dataset, options.out, settings, options.device, options.folder)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
