"""Choosing a token, or a value, by the model's logits.

Sampling stays on the device, and shapes depend on arguments only.
"""

import torch
from torch.nn import functional as F


def sample(logits, uniform, top_k=None, drop_mass=None, nearness=None):
    """Sample a bin a row, never the stop token.

    Args:
        logits: (rows, V + 1).
        uniform: (rows,) random numbers in [0, 1).
        top_k: only the k likeliest bins, or None for all.
        drop_mass: leave out the unlikeliest bins that together have less than this probability, or None.
        nearness: (V, V), see `Bins.nearness`. Which bins are the unlikeliest is then a matter of the probability near
            them, sum_i P(i) nearness_ij; those that stay are drawn by P(j) all the same. Without it, by P(j): of bins
            of unequal width the narrow ones, which hold little each, go first, and with quantiles that is the middle.

    Returns:
        (rows,) int64.
    """
    probabilities = F.softmax(logits[:, :-1], dim=-1)
    rank = probabilities if nearness is None else probabilities @ nearness
    if top_k is not None:
        least = rank.topk(min(top_k, rank.shape[1])).values[:, -1:]
        probabilities = probabilities * (rank >= least)
    if drop_mass is not None:
        bins = rank.argsort(dim=-1)
        rising = probabilities.gather(1, bins)
        dropped = rising.cumsum(dim=-1) < drop_mass * rising.sum(dim=-1, keepdim=True)
        dropped[:, -1] = False
        probabilities = probabilities.scatter(1, bins, rising.masked_fill(dropped, 0.0))
    # A cumulative sum and a comparison: several times faster than torch.multinomial at this size.
    cumulative = probabilities.cumsum(dim=-1)
    return (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=-1).clamp(max=logits.shape[1] - 2)


def sample_action(logits, slot, top_k, drop_mass, nearness, generator):
    """(rows,) tokens for an action slot, drawn from logits (rows, V + 1) by `sample`; nearness is {slot: (V, V)}."""
    uniform = torch.rand(len(logits), generator=generator, device=logits.device)
    return sample(logits, uniform, top_k, drop_mass, (nearness or {}).get(slot))


def likeliest(logits):
    """(rows,) the most probable bin of logits (rows, V + 1), never the stop token."""
    return logits[:, :-1].argmax(dim=-1)


def expectation(logits, tokenizer, slot):
    """(rows,) expected value of a slot under logits (rows, V + 1), given that the episode goes on."""
    return tokenizer.bins.expectation(F.softmax(logits[:, :-1], dim=-1), slot)
