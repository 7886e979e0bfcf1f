"""How a model is trained: hyperparameters, learning rate, the order of the data, the optimiser (appendix A)."""

import contextlib
import ctypes
import functools
import math
from dataclasses import dataclass

import torch

from ttlib.muon import Muon

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are the reference code's where it and we agree.

    Attributes:
        tokens: to train on; a window of 10 Hopper transitions counts 159.
        batch: windows an update, over all processes.
        firsts: windows of one transition that an update reads beside `batch` whole ones. What a planner without a past
            goes on from is the first transition of a whole window only, so a tenth of its tokens. For `TokenWindows`.
        microbatch: windows a pass, or as many transitions of the shorter ones; small ones stay in a CPU's cache. 0: the
            whole batch at once.
        learning_rate: after the warm-up; falls along a cosine to `floor` of itself, and stays there.
        warmup: share of the tokens over which the learning rate rises from 0.
        weight_decay: on matrices only, not on biases, norms, embeddings or positions.
        clip: largest norm of the gradient.
        optimizer: "adamw", or "muon" for few tokens (`ttlib.muon`).
        action_weight: weight of an action token in the loss; an observation's weighs 1.
        value_weight: weight of a reward's and of a reward-to-go's token, the two that say what an action earns.
        jitter: how far the observations that are read are moved, in bins, see `ttlib.jitter`; 0 for not at all.
        share: how far what is learned about a bin reaches to its neighbours, in bins, see `ttlib.ordered`; 0 for not at
            all. Not for a model that hides: its last bin is none.
        bf16: run matrix products in bfloat16, where `matrix_products` finds that the machine can.
        seed: of data order, dropout and jitter.
        log_every, save_every: updates between lines of the curve, and between checkpoints.
    """

    tokens: float = 1e6
    batch: int = 64
    firsts: int = 0
    microbatch: int = 16
    learning_rate: float = 6e-4
    floor: float = 0.1
    warmup: float = 0.05
    betas: tuple = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    optimizer: str = "adamw"
    action_weight: float = 5.0
    value_weight: float = 1.0
    jitter: float = 0.0
    share: float = 0.0
    bf16: bool = True
    seed: int = 0
    log_every: int = 50
    save_every: int = 500

    def __post_init__(self):
        if self.save_every % self.log_every:
            raise ValueError(f"save_every, {self.save_every}, must be a multiple of log_every, {self.log_every}.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"there is no optimizer {self.optimizer!r}; there are {' and '.join(OPTIMIZERS)}.")

    def rate(self, seen):
        """The learning rate once `seen` tokens have been trained on."""
        rise = min(1.0, seen / max(self.warmup * self.tokens, 1))
        way = min(1.0, max(0.0, seen / self.tokens - self.warmup) / (1 - self.warmup))
        return self.learning_rate * rise * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * way)) / 2)


def window_order(count, batch, step, seed, group=1):
    """(batch,) which of `count` windows update `step` sees: shuffled anew each time all have been seen.

    Windows [i * group, (i + 1) * group) stay together.
    """
    if group > 1:
        groups = window_order(count // group, batch // group, step, seed)
        return (groups[:, None] * group + torch.arange(group)).flatten()
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs, places = positions // count, positions % count
    chosen = torch.empty(batch, dtype=torch.int64)
    for epoch in epochs.unique().tolist():
        now = epochs == epoch
        chosen[now] = _epoch_order(count, seed, epoch)[places[now]]
    return chosen


@functools.lru_cache(maxsize=4)  # kept, since shuffling a large data set takes as long as an update of a small model
def _epoch_order(count, seed, epoch):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def make_optimizer(model, settings):
    """AdamW with weight decay on matrices only; with Muon, those of linear layers take its steps.

    A group's learning rate is the settings' times its `"factor"`, if it has one.
    """
    matrices = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n in matrices], "weight_decay": settings.weight_decay},
        {"params": [p for n, p in named if n == "head"], "weight_decay": settings.weight_decay},
        {"params": [p for n, p in named if n not in matrices | {"head"}], "weight_decay": 0.0},
    ]
    build = torch.optim.AdamW
    if settings.optimizer == "muon":
        groups[0] |= {"orthogonal": True, "factor": 20.0}
        build = Muon
    return build(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def matrix_products(device, bf16):
    """The context in which matrix products run in bfloat16, if that is wanted and the machine has instructions for it.

    A GPU has them, and so have processors of the last years. On others PyTorch would emulate them, which was
    measured to be a hundred times slower than float32; there they run in float32.
    """
    if device.type == "cpu":
        bf16 = bf16 and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def keep_freed_memory():
    """Ask the C library to keep freed blocks instead of handing them back to the kernel.

    A step frees and takes the same large blocks again and again, and on a CPU the page faults
    cost more than a tenth of it. Where there is no glibc this does nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
