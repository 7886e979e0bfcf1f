"""Training a Decision Transformer: the actions of the data, given the returns that followed them.

    python -m ttlib.baselines.decision_training --dataset local:hopper-medium --out hopper-dt.safetensors

As in `ttlib.training`, what an update does depends on the seed and its number only, so that a
run that was killed and started again ends with the same weights as one that was not.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ttlib import checkpoints
from ttlib.baselines.decision_transformer import DecisionTransformer, save_model
from ttlib.datasets import load
from ttlib.paths import ROOT
from ttlib.progress import progress
from ttlib.provenance import how_trained
from ttlib.settings import keep_freed_memory, matrix_products


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the authors' code for OpenAI Gym.

    Attributes:
        updates: how many.
        batch: stretches of trajectories an update.
        learning_rate: after the warm-up.
        warmup: updates over which it rises from 0.
        floor: share of the learning rate that is left at the last update, after falling along a line; 1, the
            authors', keeps it.
        weight_decay: of AdamW, on all weights.
        clip: largest norm of the gradient.
        hide: share of the stretches whose returns the model is not told; 1 is behaviour cloning.
            Where they are hidden, a model with outcomes also learns to predict them.
        bf16: see `ttlib.settings.Settings`.
        seed: of data order and dropout.
        log_every, save_every: updates between lines of the curve, and between checkpoints.
    """

    updates: int = 100_000
    batch: int = 64
    learning_rate: float = 1e-4
    warmup: int = 10_000
    floor: float = 1.0
    weight_decay: float = 1e-4
    clip: float = 0.25
    hide: float = 0.0
    bf16: bool = False
    seed: int = 0
    log_every: int = 100
    save_every: int = 1000

    def __post_init__(self):
        if self.save_every % self.log_every:
            raise ValueError(f"save_every, {self.save_every}, must be a multiple of log_every, {self.log_every}.")

    def rate(self, step):
        """The learning rate of update `step`, from 0."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        way = max(0, step - self.warmup) / max(self.updates - self.warmup, 1)
        return self.learning_rate * rise * (1 - (1 - self.floor) * way)


class Stretches:
    """Stretches of `context` steps of trajectories, with the return still to come at each step.

    Every step of the data is as likely to begin one, so that trajectories are drawn in
    proportion to their length. What reaches beyond its trajectory's end is padded.

    Args:
        trajectories: `Trajectories`; discrete actions are numbers in (T, 1).
        context: steps a stretch.
        discrete: whether actions are discrete.
        whole: let stretches begin where episodes do only.
        even: draw each value of the first return as often as any other, where there are few values.
            What a model that is told the return learns to do stays the same, since it is asked for
            each return by itself; but what is rare in the data is learnt in fewer updates.
        restart: count time from where the stretch begins, as if the episode did.
    """

    def __init__(self, trajectories, context, discrete=False, whole=False, even=False, restart=False):
        t = trajectories
        self.context, self.discrete, self.restart = context, discrete, restart
        self.observations = torch.tensor(t.observations)
        self.actions = torch.tensor(t.actions[:, 0]).long() if discrete else torch.tensor(t.actions)
        self.returns = torch.tensor(t.rewards + t.rewards_to_go(discount=1.0))
        self.first, self.stop = (torch.tensor(np.repeat(edge, t.lengths)) for edge in t.bounds.T)
        self.starts = torch.tensor(t.bounds[:, 0]) if whole else torch.arange(len(t))
        _, kind, counts = self.returns[self.starts].unique(return_inverse=True, return_counts=True)
        self.weights = 1 / counts[kind] if even else None

    def fingerprint(self):
        """Short hash of all that stretches are cut from, and of how they are drawn."""
        parts = [self.observations, self.actions, self.returns, self.first, self.stop, self.starts]
        parts += [] if self.weights is None else [self.weights]
        return checkpoints.fingerprint(*parts, torch.tensor([self.context, self.restart]))

    def batch(self, size, generator):
        """(returns, observations, actions, times, real): (size, context, ...) each; padding is not `real`."""
        if self.weights is None:
            drawn = torch.randint(len(self.starts), (size,), generator=generator)
        else:
            drawn = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        begin = self.starts[drawn][:, None]
        rows = begin + torch.arange(self.context)
        real, times = rows < self.stop[begin], rows - (begin if self.restart else self.first[begin])
        rows, times = torch.where(real, rows, begin), torch.where(real, times, 0)
        return self.returns[rows], self.observations[rows], self.actions[rows], times, real


def loss_of(model, batch, hidden):
    """(loss, parts): mean error of the actions, and of the returns where they are `hidden` (B,)."""
    returns, observations, actions, times, real = batch
    chosen, guessed = model(returns, observations, actions, times, hidden)
    error = (
        F.cross_entropy(chosen.flatten(0, 1).float(), actions.flatten(), reduction="none")
        if model.discrete
        else (chosen - actions).square().mean(dim=-1).flatten()
    )
    parts = {"action": error[real.flatten()].mean()}
    counted = real & hidden[:, None]
    if model.outcomes and counted.any():
        values = torch.tensor(model.outcomes, device=returns.device)
        nearest = (returns[counted][:, None] - values).abs().argmin(dim=1)
        parts["return"] = F.cross_entropy(guessed[counted].float(), nearest)
    return sum(parts.values()), parts


def train(model, stretches, settings, folder=None, on_log=None):
    """Train `model` on `stretches`, on the device it is on.

    Args:
        folder: where to keep `training.safetensors`, or None to keep nothing. A run that is
            found there is resumed.
        on_log: called with each row of the curve.

    Returns:
        The curve: a list of {"step", "seconds" since the row before, "action", and "return" where it is predicted}.

    Raises:
        ValueError: the folder holds a run with other settings, another model or other data;
            or an episode is longer than the model's times.
        OSError: a checkpoint could not be written; the one before is untouched.
    """
    device = model.bias.device
    longest = int((stretches.stop - stretches.first).max())
    if longest > model.longest:
        raise ValueError(f"an episode of {longest} steps is longer than the {model.longest} that this model knows.")
    if device.type == "cpu":
        keep_freed_memory()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    run = {"settings": asdict(settings), "model": model.size(), "data": stretches.fingerprint()}
    state = Path(folder) / "training.safetensors" if folder else None
    step, curve = checkpoints.resume(state, run, model, optimizer)
    sums, began = {}, time.monotonic()
    model.train()
    while step < settings.updates:
        optimizer.param_groups[0]["lr"] = settings.rate(step)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        batch = [part.to(device) for part in stretches.batch(settings.batch, generator)]
        hidden = (torch.rand(settings.batch, generator=generator) < settings.hide).to(device)
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout
        with matrix_products(device, settings.bf16):
            loss, parts = loss_of(model, batch, hidden)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        step += 1
        for name, part in parts.items():
            sums.setdefault(name, []).append(part.detach())
        if step % settings.log_every == 0 or step == settings.updates:
            means = {name: float(torch.stack(values).mean()) for name, values in sums.items()}
            curve.append({"step": step, "seconds": round(time.monotonic() - began, 2)} | means)
            sums, began = {}, time.monotonic()
            if on_log:
                on_log(curve[-1])
        if state and (step % settings.save_every == 0 or step == settings.updates):
            progressed = {"step": step, "curve": curve}
            checkpoints.save(state, checkpoints.run_tensors(model, optimizer), run | progressed)
    model.eval()
    return curve


def train_from_scratch(dataset, out, settings, size=None, device="cpu", folder=None):
    """What the command line does: load a data set of continuous actions, train a model, write a checkpoint.

    Args:
        dataset: a name for `ttlib.datasets.load`.
        out: the checkpoint to write; its training state lies in `folder`, by default a cache named after it.
        size: keyword arguments of `DecisionTransformer` (context, layers, heads, width, dropout ...).

    Returns:
        model, curve.
    """
    trajectories = load(dataset)
    torch.manual_seed(settings.seed)
    model = DecisionTransformer.of(trajectories, **(size or {}))
    stretches = Stretches(trajectories, model.context)
    bar = progress(total=settings.updates, label=f"training on {dataset}")

    def show(row):
        bar.update(row["step"] - bar.n)
        bar.set_postfix(loss=f"{row['action']:.4f}")

    folder = folder or ROOT / "data/cache/training" / Path(out).stem
    curve = train(model.to(device), stretches, settings, folder, show)
    bar.close()
    about = {
        "dataset": dataset,
        "env_id": trajectories.env_id,
        "fingerprint": trajectories.fingerprint(),
        "best_return": float(trajectories.returns.max()),
    } | how_trained("ttlib.baselines.decision_training", curve, settings, device)
    save_model(out, model, about)
    return model, curve


def main():
    parser = argparse.ArgumentParser(description="Train a Decision Transformer and write its checkpoint.")
    parser.add_argument("--dataset", required=True, help="such as local:hopper-medium")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, *.safetensors")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in ("updates", "batch", "learning_rate", "warmup", "floor", "hide", "seed"):
        default = getattr(Settings, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    for name, default in (("context", 20), ("layers", 3), ("heads", 1), ("width", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16")
    options = parser.parse_args()
    names = ("updates", "batch", "learning_rate", "warmup", "floor", "hide", "seed", "bf16")
    settings = Settings(**{name: getattr(options, name) for name in names})
    size = {name: getattr(options, name) for name in ("context", "layers", "heads", "width")}
    try:
        train_from_scratch(options.dataset, options.out, settings, size, options.device, options.folder)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
