"""What the baselines share: small networks, batches of transitions, the training loop, files."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ttlib import checkpoints
from ttlib.datasets import load
from ttlib.paths import ROOT
from ttlib.progress import progress
from ttlib.provenance import how_trained
from ttlib.settings import window_order


@dataclass(frozen=True)
class Settings:
    """How to train a baseline; the defaults are those of IQL's authors, with a tenth of their updates.

    Attributes:
        updates: steps of Adam.
        batch: transitions an update.
        learning_rate: constant for critics; falls to 0 along a cosine for policies.
        hidden: widths of the hidden layers of every network.
        seed: of the initial weights and of the data's order.
        log_every, save_every: updates between rows of the curve, and between checkpoints.
    """

    updates: int = 100_000
    batch: int = 256
    learning_rate: float = 3e-4
    hidden: tuple = (256, 256)
    seed: int = 0
    log_every: int = 1000
    save_every: int = 10_000

    def __post_init__(self):
        if self.save_every % self.log_every:
            raise ValueError(f"save_every, {self.save_every}, must be a multiple of log_every, {self.log_every}.")


def mlp(inputs, outputs, hidden):
    """Linear layers with ReLU between them."""
    sizes = (inputs, *hidden, outputs)
    layers = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Standardize(nn.Module):
    """Observations (..., N) less their mean, over their standard deviation, as `fit` found them in the data."""

    def __init__(self, observation):
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation))
        self.register_buffer("std", torch.ones(observation))

    def fit(self, observations):
        """Take mean and spread of (T, N). A dimension that hardly changes is not blown up."""
        self.mean.copy_(torch.as_tensor(observations.mean(axis=0, dtype=np.float64)))
        self.std.copy_(torch.as_tensor(observations.std(axis=0, dtype=np.float64) + 1e-3))

    def forward(self, observations):
        return (observations - self.mean) / self.std


class Transitions:
    """(s, a, r, s', terminal, passed) of every step after which an observation is known.

    s' is the state `n_step` recorded steps after s, or the last one of the episode if that comes
    sooner; r is the discounted sum of the rewards on the way and `passed` how many steps it was.
    A terminal has no next state; its own observation stands in, and whoever bootstraps
    multiplies it by 0. The last step of an episode that timed out went on to a state that
    nobody recorded, so it is left out. No pair s, s' therefore crosses an episode's end.

    Args:
        trajectories: the data.
        scale, shift: the rewards become scale * r + shift.
        device: where batches are made.
        n_step, discount: how far s' lies ahead, and of the rewards on the way.
    """

    def __init__(self, trajectories, scale=1.0, shift=0.0, device="cpu", n_step=1, discount=1.0):
        now = np.flatnonzero(~trajectories.timeouts)
        rewards = scale * trajectories.rewards + shift
        total, ended, passed = rewards[now], trajectories.terminals[now], np.ones(len(now))
        then = np.where(ended, now, now + 1)
        for step in range(1, n_step):
            on = ~ended & ~trajectories.timeouts[then]
            total[on] += discount**step * rewards[then[on]]
            passed[on] += 1
            ended[on] = trajectories.terminals[then[on]]
            then[on & ~ended] += 1
        self.observations = torch.tensor(trajectories.observations, device=device)
        self.actions = torch.tensor(trajectories.actions[now], device=device)
        self.now, self.then = torch.tensor(now, device=device), torch.tensor(then, device=device)
        self.rewards, self.terminals, self.passed = (
            torch.tensor(values, dtype=torch.float32, device=device) for values in (total, ended, passed)
        )

    def __len__(self):
        return len(self.now)

    def batch(self, rows):
        """s (B, N), a (B, M), r (B,), s' (B, N), terminal (B,) 0 or 1, passed (B,), for rows (B,)."""
        seen, following = self.observations[self.now[rows]], self.observations[self.then[rows]]
        return seen, self.actions[rows], self.rewards[rows], following, self.terminals[rows], self.passed[rows]


def train(model, losses, count, settings, policy, folder=None, on_log=None, run=None, after_update=None):
    """Minimise the sum of `losses` with Adam.

    Which rows an update sees depends on the seed and its number only, so that a run that was
    killed goes on from its last checkpoint and ends with the same weights as one that was not.

    Args:
        model: the module that is saved, changed in place.
        losses: function of rows (B,) int64 that gives a dict of scalar losses.
        count: how many rows there are.
        settings: `Settings`.
        policy: the part of `model` whose learning rate falls along a cosine.
        folder: where to keep `training.safetensors`, or None. A run that is found there is resumed.
        on_log: called with each row of the curve.
        run: plain values that say which run this is, beside the settings and the number of rows.
        after_update: called after each update.

    Returns:
        The curve: a list of {"step", "seconds" since the row before, mean of each loss}.

    Raises:
        ValueError: the folder holds another run.
        OSError: a checkpoint could not be written; the one before is untouched.
    """
    device = next(model.parameters()).device
    falling = {id(parameter) for parameter in policy.parameters()}
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learnt if id(p) in falling]},
        {"params": [p for p in learnt if id(p) not in falling]},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.Adam(groups, lr=settings.learning_rate, fused=True)
    state_file = Path(folder) / "training.safetensors" if folder else None
    about = (run or {}) | {"settings": asdict(settings) | {"hidden": list(settings.hidden)}, "rows": count}
    step, curve = checkpoints.resume(state_file, about, model, optimizer)
    sums, began = {}, time.monotonic()
    model.train()
    while step < settings.updates:
        groups = optimizer.param_groups
        groups[0]["lr"] = settings.learning_rate * (1 + math.cos(math.pi * step / settings.updates)) / 2
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout
        found = losses(window_order(count, settings.batch, step, settings.seed).to(device))
        sum(found.values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if after_update:
            after_update()
        step += 1
        for name, loss in found.items():
            sums[name] = sums.get(name, 0) + loss.detach()
        if step % settings.log_every == 0 or step == settings.updates:
            since = step - (curve[-1]["step"] if curve else 0)
            row = {"step": step, "seconds": round(time.monotonic() - began, 2)}
            curve.append(row | {name: float(total) / since for name, total in sums.items()})
            sums, began = {}, time.monotonic()
            if on_log:
                on_log(curve[-1])
        if state_file and (step % settings.save_every == 0 or step == settings.updates):
            checkpoints.save(
                state_file, checkpoints.run_tensors(model, optimizer), about | {"step": step, "curve": curve}
            )
    model.eval()
    return curve


def train_from_scratch(train, command, dataset, out, settings, device="cpu", folder=None):
    """What a baseline's command line does: load a data set, train, write a checkpoint; gives model and curve.

    Args:
        train: the baseline's own, a function of trajectories, settings, folder, on_log and device.
        command: the module that is run, for the provenance.
        dataset: a name for `ttlib.datasets.load`.
        out: the checkpoint's path.
        folder: where the run is kept and resumed from; by default a cache named after `out`.
    """
    trajectories = load(dataset)
    bar = progress(total=settings.updates, label=f"training on {dataset}")
    folder = folder or ROOT / "data/cache/training" / Path(out).stem
    model, curve = train(trajectories, settings, folder, lambda row: bar.update(row["step"] - bar.n), device)
    bar.close()
    about = {"dataset": dataset, "env_id": trajectories.env_id, "fingerprint": trajectories.fingerprint()}
    save_model(out, model, about | how_trained(command, curve, settings, device))
    return model, curve


def save_model(path, model, about, half=False):
    """Write a baseline to a checkpoint; `about`, its provenance, are plain values.

    With `half`, what has more than one dimension is written in float16 and read as float32 again.
    """
    tensors = model.state_dict()
    if half:
        tensors = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in tensors.items()}
    checkpoints.save(path, tensors, {"kind": model.kind, "model": model.size(), "about": about})


def load_model(path, kind, device="cpu"):
    """Read what `save_model` wrote: a model of the class `kind` in evaluation mode, and its `about`.

    Raises:
        FileNotFoundError, ValueError: no such file; damaged, or a model of another kind.
    """
    tensors, description = checkpoints.load(path)
    if description.get("kind") != kind.kind:
        raise ValueError(f"{path} holds {description.get('kind', 'something else')}, but {kind.kind} is wanted.")
    model = kind(**description["model"])
    model.load_state_dict(tensors)
    return model.to(device).eval(), description["about"]
