"""Training: the likelihood of trajectories, token by token (section 2, equation 2).

    python -m ttlib.training --dataset local:hopper-medium-replay --tokens 100e6 --out model.safetensors
    torchrun --nproc-per-node 8 -m ttlib.training ...

What a step does depends on the seed and the step's number only: which windows it
sees and which units dropout hides are drawn from generators made of both. A run that
was killed therefore goes on from its last checkpoint and ends with the same weights,
bit for bit, as one that was not.
"""

import argparse
import contextlib
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ttlib import checkpoints
from ttlib.datasets import load
from ttlib.finer import parts_between, split_words
from ttlib.jitter import jittered
from ttlib.loss import mean_losses, slot_weights, token_losses
from ttlib.model import TrajectoryTransformer, load_model, save_model
from ttlib.ordered import order_bins, share_gradients, shares, smooth_bins
from ttlib.paths import ROOT
from ttlib.provenance import how_trained
from ttlib.settings import OPTIMIZERS, Settings, keep_freed_memory, make_optimizer, matrix_products, window_order
from ttlib.tokens import Tokenizer, TokenWindows

SMOOTHING = 12  # of a start, as a part of the reach of shared gradients; at 5 the Humanoid's model lost by it


def train(model, windows, settings, folder=None, on_log=None, origin=None):
    """Train `model` on `windows`, on the device it is on.

    Under torchrun each process takes its share of every batch and the gradients are
    averaged (DDP); the loss is the one a single process would have.

    Args:
        model: `TrajectoryTransformer`, changed in place.
        windows: `TokenWindows`.
        settings: `Settings`.
        folder: where to keep `training.safetensors`, or None to keep nothing. A run that is
            found there is resumed.
        on_log: called with each row of the curve.
        origin: plain values that say where the first weights come from, for a run to be resumed by no other.

    Returns:
        The curve: a list of {"step", "tokens", "rate", "seconds" since the row before, "loss", "slots": loss
        of each slot}.

    Raises:
        ValueError: the folder holds a run with other settings, another model, other data or another origin.
        OSError: a checkpoint could not be written; the one before is untouched.
    """
    device, layout = model.head.device, model.layout
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if settings.batch % (world * windows.group) or settings.firsts % world:
        groups = f" in groups of {windows.group}" if windows.group > 1 else ""
        raise ValueError(
            f"a batch of {settings.batch}{groups} and {settings.firsts} first transitions cannot be shared evenly by "
            f"{world} processes."
        )
    windows = windows.to(device)
    if device.type == "cpu":
        keep_freed_memory()
    optimizer = make_optimizer(model, settings)
    run = {
        "settings": asdict(settings) | {"betas": list(settings.betas)},
        "model": model.size(),
        "data": windows.fingerprint() if folder else None,
        "origin": origin,
    }
    state_file = Path(folder) / "training.safetensors" if folder else None
    step, curve = checkpoints.resume(state_file, run, model, optimizer)
    parallel = DistributedDataParallel(model) if world > 1 else model

    length = layout.length(windows.transitions)
    in_one = settings.batch * (length - 1) + settings.firsts * (layout.length(1) - 1)  # tokens of an update
    updates = math.ceil(settings.tokens / in_one)
    weights = slot_weights(layout, length, settings.action_weight, settings.value_weight).to(device)
    kernel = shares(model.vocabulary, settings.share, device) if settings.share else None
    by_slot = torch.zeros(2, length - 1, device=device)  # sums of losses, and how many tokens were counted
    began = time.monotonic()
    model.train()
    while step < updates:
        rate = settings.rate(step * in_one)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        chosen = window_order(len(windows), settings.batch, step, settings.seed, windows.group)
        drawn = [(windows, chosen.view(-1, windows.group)[rank::world].flatten().to(device))]
        if settings.firsts:
            # In an order of their own, so that they are not those of the whole windows just drawn.
            chosen = window_order(len(windows), settings.firsts, step, settings.seed + 1)
            drawn.append((windows.cut(1), chosen[rank::world].to(device)))
        by_slot += _accumulate_gradients(parallel, drawn, weights, settings, step, world)
        if settings.share:
            share_gradients(model, kernel)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % settings.log_every == 0 or step == updates:
            seen, seconds = step * in_one, round(time.monotonic() - began, 2)
            row = {"step": step, "tokens": seen, "rate": rate, "seconds": seconds}
            curve.append(row | mean_losses(by_slot, weights, layout))
            by_slot.zero_()
            began = time.monotonic()
            if on_log and rank == 0:
                on_log(curve[-1])
        if state_file and rank == 0 and (step % settings.save_every == 0 or step == updates):
            progress = {"step": step, "curve": curve}
            checkpoints.save(state_file, checkpoints.run_tensors(model, optimizer), run | progress)
    model.eval()
    return curve


def _accumulate_gradients(model, drawn, weights, settings, step, world):
    """One update's gradients: of the weighted loss averaged over all counted tokens of all processes.

    `drawn` is [(windows, which of them)]; where they are of several lengths, the longest come first.
    """
    longest, parts = drawn[0][0], []
    for windows, chosen in drawn:
        tokens, counted, *context = windows.batch(chosen)
        # What windows see together, such as images, is read once, so the batch is not cut then.
        size = 0 if context else settings.microbatch * (longest.transitions // windows.transitions)
        cut = zip(tokens.split(size or len(tokens)), counted[:, 1:].split(size or len(tokens)), strict=True)
        parts += [(part, mask, context) for part, mask in cut]
    total = sum(mask.sum() for _, mask, _ in parts)
    if world > 1:
        dist.all_reduce(total)
    rank = dist.get_rank() if world > 1 else 0
    torch.manual_seed((settings.seed * 1_000_003 + step) * 1024 + rank)  # dropout, and jitter
    reader = _jittery(model, longest, settings.jitter) if settings.jitter else model
    by_slot = torch.zeros(2, len(weights), device=weights.device)
    for number, (part, mask, context) in enumerate(parts, start=1):
        with contextlib.nullcontext() if world == 1 or number == len(parts) else model.no_sync():
            with matrix_products(part.device, settings.bf16):
                losses = token_losses(reader, part, *context) * mask
            # DDP averages over processes, so that the sum over all tokens needs `world` once more.
            ((losses * weights[: losses.shape[1]]).sum() * world / total).backward()
        by_slot[:, : losses.shape[1]] += torch.stack([losses.detach().sum(dim=0), mask.sum(dim=0)])
    if world > 1:
        dist.all_reduce(by_slot)
    return by_slot


def _jittery(model, windows, spread):
    """`model`, but what it reads is jittered before."""
    return lambda tokens, *context: model(jittered(tokens, windows.layout, windows.bins, spread), *context)


@contextlib.contextmanager
def processes(device):
    """Join the processes that torchrun started, if it did; gives this one's device. A user's error ends in a line."""
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        device = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    try:
        yield device
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def train_from_data(
    dataset,
    out,
    settings,
    size,
    tokens,
    transitions=10,
    device="cpu",
    folder=None,
    start=None,
    ordered=False,
    eight_bits=False,
    beginnings=0,
    timeout_margin=0,
):
    """What the command line does: load a data set, fit a tokenizer, train a model, write a checkpoint.

    Args:
        dataset: a name for `ttlib.datasets.load`.
        out: the checkpoint to write; its training state lies in `folder`, by default a cache named after it.
        settings: `Settings`.
        size: keyword arguments of `TrajectoryTransformer` (layers, heads, width, dropout).
        tokens: keyword arguments of `Tokenizer.fit`.
        start: a checkpoint to start from, such as the same body's in another maze, or one with fewer bins of the same
            data, each of which is then cut into parts (`ttlib.finer`); random weights if left out. With shared
            gradients its bins are smoothed first.
        ordered: let random weights begin with the bins in order (`ttlib.ordered`).
        eight_bits: see `ttlib.model.save_model`.
        beginnings, timeout_margin: see `TokenWindows`.

    Returns:
        model, tokenizer, curve.

    Raises:
        FileNotFoundError, ValueError: there is no such data set or start, or the start is a model of another size.
    """
    trajectories = load(dataset)
    tokenizer = Tokenizer.fit(trajectories, **tokens)
    windows = TokenWindows(tokenizer, trajectories, transitions, beginnings=beginnings, timeout_margin=timeout_margin)
    torch.manual_seed(settings.seed)
    model = TrajectoryTransformer(tokenizer.layout, tokenizer.bins.size, transitions, **size).to(device)
    begun = {}
    if start:
        other, its_tokenizer, its = load_model(start, device)
        if other.vocabulary < model.vocabulary and (
            parts := parts_between(its_tokenizer.bins.to("cpu"), tokenizer.bins)
        ):
            other = split_words(other, parts)
        if (other.layout, other.size() | {"dropout": model.dropout}) != (model.layout, model.size()):
            raise ValueError(f"{start} is a model of another size, or of other transitions; nothing can start from it.")
        model.load_state_dict(other.state_dict())
        if settings.share:
            smooth_bins(model, settings.share / SMOOTHING)
        origin = ("dataset", "command", "commit", "tokens", "start")
        begun = {"start": {key: its[key] for key in origin if key in its}}
    elif ordered:
        order_bins(model)
        begun = {"ordered": True}
    main_process = not dist.is_initialized() or dist.get_rank() == 0
    progress = tqdm(total=int(settings.tokens), unit="tok", unit_scale=True, mininterval=1, disable=not main_process)

    def show(row):
        progress.update(row["tokens"] - progress.n)
        progress.set_postfix(loss=f"{row['loss']:.3f}")

    folder = folder or ROOT / "data/cache/training" / Path(out).stem
    curve = train(model, windows, settings, folder, show, begun)
    if main_process:
        about = {"dataset": dataset, "env_id": trajectories.env_id, "fingerprint": trajectories.fingerprint()}
        about |= {"tokens": curve[-1]["tokens"]} | begun | how_trained("ttlib.training", curve, settings, device)
        save_model(out, model, tokenizer, about, eight_bits)
    return model, tokenizer.to(device), curve


def main():
    parser = argparse.ArgumentParser(description="Train a Trajectory Transformer and write its checkpoint.")
    parser.add_argument("--dataset", required=True, help="such as local:hopper-medium-replay")
    parser.add_argument("--out", required=True, type=Path, help="the checkpoint to write, *.safetensors")
    parser.add_argument("--folder", type=Path, help="where the run is kept and resumed from")
    begin = parser.add_mutually_exclusive_group()
    # Not --start, which torchrun would take for an option of its own.
    begin.add_argument("--weights", type=Path, help="a checkpoint to start from, of the same size or with fewer bins")
    begin.add_argument("--ordered", action="store_true", help="let each slot's bins begin in order (for few tokens)")
    parser.add_argument("--optimizer", default="adamw", choices=OPTIMIZERS, help="muon gets further with few tokens")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in (("tokens", 1e8), ("batch", 64), ("microbatch", 16), ("learning-rate", 6e-4), ("seed", 0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--firsts", type=int, default=0, help="windows of one transition that an update reads besides")
    for name, default in (("transitions", 10), ("layers", 4), ("heads", 4), ("width", 128), ("bins", 100), ("goal", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--action-weight", type=float, default=5.0, help="of an action token in the loss; others: 1")
    parser.add_argument("--value-weight", type=float, default=1.0, help="of a reward or reward-to-go token in the loss")
    parser.add_argument("--jitter", type=float, default=0.0, help="how far observations that are read move, in bins")
    parser.add_argument("--share", type=float, default=0.0, help="how far what a bin learns reaches, in bins")
    parser.add_argument("--method", default="quantile", help="discretizer: quantile or uniform")
    parser.add_argument("--no-values", action="store_true", help="leave out reward and reward-to-go tokens")
    parser.add_argument("--terminal-reward", type=float, help="replaces the reward of a terminal; -100 in locomotion")
    parser.add_argument("--beginnings", type=int, default=0, help="more windows at each episode's first step")
    help_margin = "steps before a timeout whose rewards-to-go are not learned, as their ends are lacking"
    parser.add_argument("--timeout-margin", type=int, default=0, help=help_margin)
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--eight-bits", action="store_true", help="a smaller file, for a model with many bins")
    options = parser.parse_args()
    settings = Settings(
        tokens=options.tokens,
        batch=options.batch,
        microbatch=options.microbatch if options.device == "cpu" else 0,
        learning_rate=options.learning_rate,
        optimizer=options.optimizer,
        firsts=options.firsts,
        action_weight=options.action_weight,
        value_weight=options.value_weight,
        jitter=options.jitter,
        share=options.share,
        seed=options.seed,
        bf16=not options.float32,
    )
    size = {name: getattr(options, name) for name in ("layers", "heads", "width", "dropout")}
    tokens = {name: getattr(options, name) for name in ("bins", "method", "goal", "terminal_reward")}
    tokens["values"] = not options.no_values
    with processes(options.device) as device:
        train_from_data(
            options.dataset,
            options.out,
            settings,
            size,
            tokens,
            options.transitions,
            device,
            options.folder,
            options.weights,
            options.ordered,
            options.eight_bits,
            options.beginnings,
            options.timeout_margin,
        )


if __name__ == "__main__":
    main()
