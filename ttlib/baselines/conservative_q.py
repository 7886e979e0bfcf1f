"""Conservative Q-learning for discrete actions (Kumar et al. 2020): learning by temporal differences.

The value of an action is what it earns at once plus the value of where it leads, so a reward
travels backwards through the data one step an update. It can only come as far as what is
observed tells states apart: where two states look alike, their values are one average.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from ttlib.baselines import common
from ttlib.baselines.common import Settings, Transitions, mlp

RATE = 0.005  # of the target network, an update


class ConservativeQ(nn.Module):
    """Q(s, .) of all actions, a network and its slowly following target.

    Args:
        observation: numbers in an observation.
        action: how many actions there are.
        hidden: widths of the hidden layers.
        discount: of later rewards.
        penalty: weight of the term that lowers the values of actions which the data do not have.
    """

    kind = "conservative Q-learning"

    def __init__(self, observation, action, hidden=(128, 128), discount=0.99, penalty=1.0):
        super().__init__()
        self.observation, self.action, self.hidden = observation, action, tuple(hidden)
        self.discount, self.penalty = discount, penalty
        self.net = mlp(observation, action, hidden)
        self.target = copy.deepcopy(self.net).requires_grad_(False)

    def size(self):
        """What `load_model` needs to build the same network, as plain values."""
        names = ("observation", "action", "discount", "penalty")
        return {name: getattr(self, name) for name in names} | {"hidden": list(self.hidden)}

    def losses(self, observations, actions, rewards, following, terminals):
        """{"td", "conservative"} for a batch of transitions; actions (B,) int64.

        The network chooses the next action and the target says what it is worth (van Hasselt et al. 2016).
        """
        values = self.net(observations)
        taken = values.gather(1, actions[:, None])[:, 0]
        with torch.no_grad():
            best = self.net(following).argmax(dim=1, keepdim=True)
            goal = rewards + self.discount * (1 - terminals) * self.target(following).gather(1, best)[:, 0]
        conservative = (values.logsumexp(dim=1) - taken).mean()
        return {"td": F.mse_loss(taken, goal), "conservative": self.penalty * conservative}

    @torch.no_grad()
    def follow(self):
        """Move the target a little towards the network."""
        for slow, fast in zip(self.target.parameters(), self.net.parameters(), strict=True):
            slow.lerp_(fast, RATE)


class GreedyController:
    """Takes the action of the largest Q; `ttlib.evaluation.evaluate` runs it in many environments at once.

    Args:
        model: a `ConservativeQ`.
        features: function of observations (E, N) and the step since the episodes began that gives
            what the model reads, (E, observation).
    """

    def __init__(self, model, features):
        self.model, self.features = model.eval(), features

    def reset(self, episodes):
        self.step = 0

    @torch.inference_mode()
    def act(self, observations):
        """Actions (E,) int64."""
        seen = torch.as_tensor(self.features(observations, self.step), dtype=torch.float32)
        return self.model.net(seen).argmax(dim=1).numpy()

    def observe(self, rewards):
        self.step += 1

    def drop(self, going):
        """There is nothing to forget: all that is kept is the time, which is the same in all episodes."""


def train(trajectories, actions, settings=None, folder=None, on_log=None, **size):
    """Learn the Q of `trajectories` whose actions are numbers in (T, 1).

    Args:
        actions: how many there are.
        settings, folder, on_log: see `common.train`.
        size: further arguments of `ConservativeQ`.

    Returns:
        `ConservativeQ`, curve.
    """
    settings = settings or Settings()
    torch.manual_seed(settings.seed)
    model = ConservativeQ(trajectories.observation_dim, actions, settings.hidden, **size)
    data = Transitions(trajectories)

    def losses(rows):
        observations, taken, rewards, following, terminals, _ = data.batch(rows)
        return model.losses(observations, taken[:, 0].long(), rewards, following, terminals)

    run = {"method": "cql", "model": model.size(), "data": trajectories.fingerprint()}
    return model, common.train(model, losses, len(data), settings, model, folder, on_log, run, model.follow)
