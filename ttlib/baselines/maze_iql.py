"""IQL for the ants collected here, whose V is a table of places.

    python -m ttlib.baselines.maze_iql --dataset local:antmaze-umaze --out antmaze-umaze-iql.safetensors

The three parts of IQL (`ttlib.baselines.iql`; Kostrikov et al. 2022, section 4), for a world without chance in which a
single action, of a twentieth of a second, says little about where a body is going:

    V(x, y)   the upper expectile of what stretches of recordings from there came to    `PlaceValues`
    Q(s, a)   what the next `n_step` steps bring after a in s, and V where they end
    policy    imitates a in s with weight exp(temperature * (what its stretch came to - V(s)))

As in IQL nobody is asked what an action would bring that was not recorded. Unlike there, V does not lean on Q: it is
filled first, and critics and policy are plain regressions onto stretches that end in it. They do not see x and y, but
how V lies around: what it is one and two metres away, in eight directions, less what it is here. So a body that turns
into a corridor learns from all others that did, wherever it was.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ttlib.baselines import common
from ttlib.baselines.behaviour_cloning import Policy, check_actions
from ttlib.baselines.common import Settings, Standardize, Transitions
from ttlib.baselines.iql import limits_of
from ttlib.baselines.place_values import PlaceValues

REACH = (1.0, 2.0)  # metres around a place at which V is looked up
DIRECTIONS = 8
STEEP = 20.0  # a difference of V that counts as 1; an ant makes its metre in 13 to 20 steps


@dataclass(frozen=True)
class MazeSettings(Settings):
    """Settings of `train`; those of the regressions beside `Settings`' own.

    Attributes (beside `Settings`'):
        expectile: of V.
        discount: of V, which slopes by discount^d where the goal is d steps away; 750 in the large mazes.
        side: of a cell of V's table, metres.
        caution, value_steps: see `PlaceValues.fit`; V looks so many steps ahead.
        n_step: steps of the stretches that critics and policy learn from.
        temperature: how much the policy prefers actions with an advantage.
        largest_weight: limit of the policy's weights.
        dropout: of the critics' hidden layers.
    """

    updates: int = 10_000
    batch: int = 512
    learning_rate: float = 1e-3
    expectile: float = 0.95
    discount: float = 0.9995
    side: float = 0.5
    caution: float = 1.0
    value_steps: int = 10
    n_step: int = 15
    temperature: float = 0.5
    largest_weight: float = 100.0
    dropout: float = 0.1


class View(nn.Module):
    """What critics and policy see of observations (..., N): how V lies around, and the body, standardised.

    Args:
        places: `PlaceValues`.
        observation: N; the first two are x and y.
    """

    def __init__(self, places, observation):
        super().__init__()
        self.places, self.body = places, Standardize(observation - 2)
        self.observation, self.width = observation, observation - 2 + len(REACH) * DIRECTIONS
        angles = torch.arange(DIRECTIONS) * 2 * math.pi / DIRECTIONS
        rays = torch.stack([angles.cos(), angles.sin()], dim=1)
        self.register_buffer("around", torch.cat([reach * rays for reach in REACH]), persistent=False)

    @torch.no_grad()
    def forward(self, observations):
        """(..., W) for observations (..., N). Where nobody was V is as low as can be, so walls are seen, too."""
        places = observations[..., :2]
        slopes = self.places(places[..., None, :] + self.around) - self.places(places)[..., None]
        return torch.cat([self.body(observations[..., 2:]), (slopes / STEEP).clamp(-2, 2)], dim=-1)


class MazeIQL(nn.Module):
    """V of places, two critics and a policy; acts and judges plans as `ttlib.baselines.iql.IQL` does.

    Args:
        observation, action: dimensions N and M.
        shape, side, least: see `PlaceValues`.
        hidden: widths of the hidden layers of each network.
        scale, shift: what the rewards were rescaled by, so values are those of scale * r + shift.
    """

    kind = "an IQL agent with values of places"

    def __init__(
        self, observation, action, shape, side=0.5, least=0.0, hidden=(256, 256), dropout=0.1, scale=1.0, shift=-1.0
    ):
        super().__init__()
        self.observation, self.action, self.hidden, self.dropout = observation, action, tuple(hidden), dropout
        self.scale, self.shift = scale, shift
        self.view = View(PlaceValues(shape, side, least), observation)
        self.critics = nn.ModuleList(_critic(self.view.width + action, hidden, dropout) for _ in range(2))
        self.chooser = Policy(self.view.width, action, hidden)
        self.register_buffer("action_spread", torch.ones(action))
        self.register_buffer("spread", torch.ones(()))  # of what stretches come to, less V

    @property
    def places(self):
        return self.view.places

    @property
    def policy(self):
        return LocalPolicy(self.view, self.chooser)

    def size(self):
        """What `load_model` needs to build the same agent, as plain values."""
        names = ("observation", "action", "dropout", "scale", "shift")
        places = {"shape": list(self.places.shape), "side": self.places.side, "least": self.places.least}
        return {name: getattr(self, name) for name in names} | places | {"hidden": list(self.hidden)}

    @torch.no_grad()
    def q(self, observations, actions):
        """(...) min(Q1, Q2) for observations (..., N) and actions (..., M), in rescaled rewards."""
        gains = self.spread * self.gains(self.view(observations), actions)
        return self.value(observations) + gains.amin(dim=0)

    @torch.no_grad()
    def value(self, observations):
        """(...) V of where observations (..., N) are, in rescaled rewards."""
        return self.places(observations[..., :2])

    def gains(self, views, actions):
        """(2, ...) what each critic expects of actions (..., M) beyond V, in units of its spread; views (..., W)."""
        x = torch.cat([views, actions / self.action_spread], dim=-1)
        return torch.stack([critic(x)[..., 0] for critic in self.critics])

    def losses(self, views, actions, gained, settings):
        """The critics' and the policy's loss, for what stretches gained (B,): what they came to, less V."""
        weights = (settings.temperature * gained).exp().clamp(max=settings.largest_weight)
        errors = self.gains(views, actions) - gained / self.spread
        return {
            "critic": (errors**2).mean(dim=1).sum(),
            "policy": -(weights * self.chooser.log_likelihood(views, actions)).mean(),
        }


class LocalPolicy:
    """A `Policy` of what a `View` shows, as a policy of observations; for `PolicyController`."""

    def __init__(self, view, chooser):
        self.view, self.chooser, self.observation = view, chooser, view.observation
        self.log_std = chooser.log_std

    def __call__(self, observations):
        """The mean action (..., M) for observations (..., N)."""
        return self.chooser(self.view(observations))

    def eval(self):
        self.chooser.eval()
        return self


def _critic(inputs, hidden, dropout):
    layers = []
    for wide, width in zip((inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(wide, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


def train(trajectories, settings=None, folder=None, on_log=None, device="cpu"):
    """Train `MazeIQL` on `trajectories` of a maze; rewards count less one, as in IQL's AntMaze.

    Args:
        settings: `MazeSettings`.
        folder, on_log: see `common.train`.

    Returns:
        `MazeIQL`, curve.

    Raises:
        ValueError: an action lies outside of [-1, 1], the discount is not from [0, 1), or the folder holds another run.
    """
    settings = settings or MazeSettings()
    check_actions(trajectories)
    limits = limits_of(torch.tensor([-1.0]), settings.discount)
    ahead = Transitions(trajectories, 1.0, -1.0, device, settings.value_steps, settings.discount)
    stretches = Transitions(trajectories, 1.0, -1.0, device, settings.n_step, settings.discount)
    places = stretches.observations[:, :2]
    low, high = places.amin(dim=0), places.amax(dim=0)
    columns, rows = ((high - low) / settings.side).floor().long().add(1).tolist()
    torch.manual_seed(settings.seed)
    size = {"observation": trajectories.observation_dim, "action": trajectories.action_dim}
    size |= {"shape": (rows, columns), "side": settings.side, "least": limits[0]}
    agent = MazeIQL(**size, hidden=settings.hidden, dropout=settings.dropout).to(device)
    agent.places.corner.copy_(low)
    agent.places.fit(ahead, settings.expectile, settings.discount, settings.value_steps, -1.0, settings.caution)
    agent.view.body.fit(trajectories.observations[:, 2:])
    agent.action_spread.copy_(torch.as_tensor(trajectories.actions.std(axis=0)))
    seen, following = (stretches.observations[rows] for rows in (stretches.now, stretches.then))
    onward = settings.discount**stretches.passed * (1 - stretches.terminals)
    gained = stretches.rewards + onward * agent.value(following) - agent.value(seen)
    agent.spread.copy_(gained.std())
    views = torch.cat([agent.view(part) for part in seen.split(10_000)])
    curve = common.train(
        agent,
        lambda rows: agent.losses(views[rows], stretches.actions[rows], gained[rows], settings),
        len(stretches),
        settings,
        agent,
        folder,
        on_log,
        {"method": "maze iql", "data": trajectories.fingerprint()},
    )
    return agent, curve


def main():
    parser = argparse.ArgumentParser(description="Train an IQL agent with values of places and write its checkpoint.")
    parser.add_argument("--dataset", required=True, help="such as local:antmaze-umaze")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, *.safetensors")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = ("updates", "batch", "seed", "expectile", "discount", "caution", "n_step", "temperature", "dropout")
    for name in chosen:
        default = getattr(MazeSettings, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    settings = MazeSettings(**{name: getattr(options, name) for name in chosen})
    try:
        common.train_from_scratch(
            train, "ttlib.baselines.maze_iql", options.dataset, options.out, settings, options.device, options.folder
        )
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
