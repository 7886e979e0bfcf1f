"""PETS: an ensemble of networks, each of which gives a Gaussian over the next state (Chua et al. 2018).

The spread that one network predicts is the noise of the world; where the networks disagree, the data
left something open. Every network learns from its own bootstrap of the data, the likelihood of the
change of the state

    s' - s  ~  N(mean(s, a), variance(s, a))     independently in each dimension

and a prediction follows one network from its first step to its last (TS-inf).

How this differs from the authors' code, each to the ensemble's advantage: 1. changes are standardised as
inputs are, so that the limits of the variance mean the same in every dimension; 2. the learning rate falls
along a cosine; 3. drawn states stay inside of the training data's range, as a tokenizer's bins do, so that
a prediction that diverges does not run off; 4. the batch is 256 and not 32.

A state may be partly hidden: NaN stands for what is not seen. It is replaced by the data's mean, and the
networks are told which dimensions it was. Hidden targets have no loss.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ttlib.baselines import common
from ttlib.baselines.common import Settings


@dataclass(frozen=True)
class PetsSettings(Settings):
    """The authors' settings for the half-cheetah, but for what the module's head names.

    Attributes (beside `Settings`'):
        members: networks in the ensemble.
        first_decay, last_decay: weight decay of the first and of the last layer; linear between them.
    """

    updates: int = 20_000
    learning_rate: float = 1e-3
    hidden: tuple = (200, 200, 200, 200)
    members: int = 5
    first_decay: float = 2.5e-5
    last_decay: float = 1e-4


class Ensemble(nn.Module):
    """`members` networks side by side: one batched matrix product a layer.

    Args:
        observation, action: dimensions N and M.
        members: how many networks.
        hidden: widths of the hidden layers of each.
        hides: whether observations may be hidden in part.
    """

    kind = "a PETS ensemble"

    def __init__(self, observation, action, members=5, hidden=(200, 200, 200, 200), hides=False):
        super().__init__()
        self.observation, self.action, self.members = observation, action, members
        self.hidden, self.hides = tuple(hidden), hides
        sizes = (observation * (1 + hides) + action, *hidden, 2 * observation)
        pairs = list(zip(sizes, sizes[1:], strict=False))
        self.weights = nn.ParameterList(torch.empty(members, a, b) for a, b in pairs)
        self.biases = nn.ParameterList(torch.zeros(members, 1, b) for _, b in pairs)
        for weight in self.weights:
            nn.init.trunc_normal_(weight, std=0.5 / math.sqrt(weight.shape[1]))
        # The limits of the log variance, in standardised units; learned.
        self.highest = nn.Parameter(torch.full((observation,), 0.5))
        self.lowest = nn.Parameter(torch.full((observation,), -10.0))
        for name, value in (("mean", 0.0), ("std", 1.0), ("scale", 1.0), ("low", -math.inf), ("high", math.inf)):
            self.register_buffer(name, torch.full((observation,), value))
        self.register_buffer("action_mean", torch.zeros(action))
        self.register_buffer("action_std", torch.ones(action))

    def size(self):
        """What `load_model` needs to build the same ensemble, as plain values."""
        names = ("observation", "action", "members", "hides")
        return {name: getattr(self, name) for name in names} | {"hidden": list(self.hidden)}

    def fit(self, observations, actions, following):
        """Take means, spreads and ranges of s (T, N), a (T, M) and s' (T, N), numpy arrays with NaN where hidden."""
        self.mean.copy_(torch.as_tensor(np.nanmean(observations, axis=0, dtype=np.float64)))
        self.std.copy_(torch.as_tensor(np.nanstd(observations, axis=0, dtype=np.float64) + 1e-6))
        self.action_mean.copy_(torch.as_tensor(actions.mean(axis=0, dtype=np.float64)))
        self.action_std.copy_(torch.as_tensor(actions.std(axis=0, dtype=np.float64) + 1e-6))
        known = np.where(np.isnan(observations), self.mean.cpu().numpy(), observations)
        self.scale.copy_(torch.as_tensor(np.nanstd(following - known, axis=0, dtype=np.float64) + 1e-6))
        both = np.concatenate([observations, following])
        self.low.copy_(torch.as_tensor(np.nanmin(both, axis=0)))
        self.high.copy_(torch.as_tensor(np.nanmax(both, axis=0)))

    def forward(self, observations, actions):
        """What each network expects of s (members, B, N), NaN where hidden, and a (members, B, M).

        Returns:
            known: (members, B, N) what the change is counted from: s, or the mean where s is hidden.
            change, log_variance: (members, B, N), in units of `scale` and of its square.
        """
        hidden = observations.isnan()
        known = torch.where(hidden, self.mean, observations)
        parts = [(known - self.mean) / self.std, (actions - self.action_mean) / self.action_std]
        x = torch.cat([*parts, hidden.to(known.dtype)] if self.hides else parts, dim=-1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.silu(x) if layer else x, weight)
        change, log_variance = x.chunk(2, dim=-1)
        log_variance = self.highest - F.softplus(self.highest - log_variance)
        return known, change, self.lowest + F.softplus(log_variance - self.lowest)

    def losses(self, observations, actions, following, settings):
        """The three parts of the loss for s, s' (members, B, N) and a (members, B, M): a dict of scalars."""
        known, change, log_variance = self(observations, actions)
        seen = ~following.isnan()
        error = (torch.where(seen, following, known) - known) / self.scale - change
        likelihood = (error**2 * torch.exp(-log_variance) + log_variance) * seen
        decays = torch.linspace(settings.first_decay, settings.last_decay, len(self.weights)).tolist()
        return {
            "likelihood": (likelihood.sum(dim=(1, 2)) / seen.sum(dim=(1, 2))).sum(),
            "limits": 0.01 * (self.highest.sum() - self.lowest.sum()),
            "decay": sum(decay * (weight**2).sum() / 2 for decay, weight in zip(decays, self.weights, strict=True)),
        }

    @torch.inference_mode()
    def sample(self, observations, actions, generator=None):
        """Next observations (members, B, N), row m drawn by network m, for s (members, B, N), a (members, B, M)."""
        known, change, log_variance = self(observations, actions)
        noise = torch.randn(change.shape, generator=generator, device=change.device)
        drawn = known + self.scale * (change + noise * torch.exp(log_variance / 2))
        return torch.maximum(torch.minimum(drawn, self.high), self.low)

    @torch.inference_mode()
    def expect(self, observations, actions):
        """The next observation (B, N) that the networks expect on average, for s (B, N), NaN where hidden, a (B, M)."""
        every = (self.members, -1, -1)
        known, change, _ = self(observations.expand(every), actions.expand(every))
        return (known + self.scale * change).mean(dim=0)


def consecutive(trajectories):
    """(K,) the steps that are followed by another one of the same episode."""
    return np.flatnonzero(~(trajectories.terminals | trajectories.timeouts))


def r2(model, observations, actions, following):
    """How much of s' (B, N), and of its change s' - s, the mean prediction explains.

    Args:
        observations, actions, following: s (B, N), a (B, M), s' (B, N), numpy arrays; s has NaN where hidden.

    Returns:
        (N,), (N,): 1 - mean squared error / variance of each dimension, of the state and of the change
        (the latter is NaN where s is hidden somewhere).
    """
    device = model.scale.device
    now, taken = (torch.as_tensor(values, dtype=torch.float32, device=device) for values in (observations, actions))
    errors = ((model.expect(now, taken).cpu().numpy() - following) ** 2).mean(axis=0, dtype=np.float64)
    variances = (values.var(axis=0, dtype=np.float64) for values in (following, following - observations))
    return tuple(1 - errors / variance for variance in variances)


def train(trajectories, settings=None, hidden=None, folder=None, on_log=None, device="cpu"):
    """Train an `Ensemble` on `trajectories`.

    Args:
        settings: `PetsSettings`.
        hidden: (T, N) bool, what of the observations is hidden, or None.
        folder, on_log: see `common.train`.

    Returns:
        `Ensemble`, curve.

    Raises:
        ValueError: the folder holds another run.
    """
    settings = settings or PetsSettings()
    observations = trajectories.observations
    if hidden is not None:
        observations = np.where(hidden, np.float32(np.nan), observations)
    now = consecutive(trajectories)
    torch.manual_seed(settings.seed)
    model = Ensemble(
        observations.shape[1], trajectories.action_dim, settings.members, settings.hidden, hidden is not None
    )
    model.fit(observations[now], trajectories.actions[now], observations[now + 1])
    model.to(device)
    # Each network's own bootstrap: as many steps as there are, drawn with replacement.
    drawn = torch.randint(
        len(now), (settings.members, len(now)), generator=torch.Generator().manual_seed(settings.seed)
    )
    drawn = torch.from_numpy(now)[drawn].to(device)
    states, actions = (torch.tensor(values, device=device) for values in (observations, trajectories.actions))

    def losses(rows):
        steps = drawn[:, rows]
        return model.losses(states[steps], actions[steps], states[steps + 1], settings)

    run = {"method": "pets", "hides": model.hides, "data": trajectories.fingerprint()}
    return model, common.train(model, losses, len(now), settings, model, folder, on_log, run)
