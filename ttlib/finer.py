"""Finer words: a model with more bins a number, from one with fewer.

What is learned with few words is not lost when more are wanted. Each bin is cut into equal parts, and each part begins
with the vectors of the bin that it is cut from. To the longer vocabulary the model says what it said before, the same
density in every place, but for the stop token, whose odds fall by the number of parts. From then on it learns which
part of a bin it is.
"""

import torch

from ttlib.model import TrajectoryTransformer


@torch.no_grad()
def split_words(model, parts):
    """A `TrajectoryTransformer` with `parts` words for each one of `model`'s, on its device.

    Word w of a slot means, at first, what word w // parts meant.

    Raises:
        ValueError: fewer than one part.
    """
    if parts < 1:
        raise ValueError(f"a word is cut into at least one part, not {parts}.")
    finer = TrajectoryTransformer(model.layout, **(model.size() | {"vocabulary": model.vocabulary * parts}))
    weights = dict(model.state_dict())
    words, stop = weights["embedding.weight"][:-1], weights["embedding.weight"][-1:]
    weights["embedding.weight"] = torch.cat([words.repeat_interleave(parts, dim=0), stop])
    words, stop = weights["head"][:, :-1], weights["head"][:, -1:]
    weights["head"] = torch.cat([words.repeat_interleave(parts, dim=1), stop], dim=1)
    finer.load_state_dict(weights)
    return finer.to(model.head.device)


def parts_between(coarse, fine):
    """Into how many parts `fine` cuts each bin of `coarse`, both `Bins`; 0 if that is not how they differ.

    Edges may be off by a hundredth of the coarse bin beside them, as after rounding. Bins without width have none.
    """
    parts, rest = divmod(fine.size, coarse.size)
    if rest or len(fine.edges) != len(coarse.edges):
        return 0
    off, widths = (fine.edges[:, ::parts] - coarse.edges).abs(), coarse.edges.diff(dim=1)
    return parts if (off[:, :-1] <= widths / 100).all() and (off[:, 1:] <= widths / 100).all() else 0
