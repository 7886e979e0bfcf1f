"""Bins that begin in order: a head start for small budgets.

To the model a slot's bins are words without an order; that bin 41 lies beside bin 42 it has to find out, from
the data, for each slot anew. Here the vectors of a slot's bins begin on a smooth curve, so that what is learned about a
bin holds, at first, for its neighbours too. From then on each vector is free.
"""

import math

import torch


@torch.no_grad()
def order_bins(model, waves=16, size=0.05):
    """Let embeddings and heads of a `TrajectoryTransformer` begin on random smooth curves; changes it in place.

    Args:
        waves: sines and cosines of growing frequency and falling amplitude, of which a curve is made.
        size: standard deviation of the numbers of a vector.
    """
    bins, slots = model.vocabulary, model.embedding.num_embeddings // model.vocabulary
    middles = (torch.arange(bins) + 0.5) / bins
    frequencies = torch.arange(1, waves + 1)
    angles = math.pi * frequencies * middles[:, None]
    basis = torch.cat([angles.sin(), angles.cos()], dim=1) / frequencies.sqrt().repeat(2)
    basis *= size / basis.square().sum(dim=1).mean().sqrt()
    device, width = model.head.device, model.width
    for table, curves in (
        (model.embedding.weight[: slots * bins].view(slots, bins, width), slots),
        (model.head[:, :bins], len(model.head)),
    ):
        weights = torch.randn(curves, basis.shape[1], width)
        table.copy_(torch.einsum("bw,cwd->cbd", basis, weights).to(device))
