"""Attention: what each head looks at, and how much of two patterns is in it (figure 4).

The paper shows heads of two kinds: some look at the transition just before (a Markov model would do the
same), others at the same few dimensions in many earlier steps, in stripes, with actions that look at
earlier actions. Here both are measured for every head before any is shown.
"""

import torch


@torch.inference_mode()
def attention_maps(model, tokens):
    """The attention weights of every head.

    Args:
        tokens: (B, T) int64.

    Returns:
        (layers, B, heads, T, T) float32 on the CPU; row q of a map is what position q looks at, and sums to 1.
    """
    length = tokens.shape[1]
    bias, x, maps = model.bias[:length, :length], model.embed(tokens), []
    for block in model.blocks:
        query, key, _ = block.project(x)
        maps.append(torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5 + bias, dim=-1).cpu())
        x, _, _ = block(x, bias)
    return torch.stack(maps)


def patterns(layout, length):
    """Which pairs of positions belong to each pattern: {name: (T, T) bool}, row q for what q predicts.

    Position q predicts token q + 1, so time and slot of a row are those of token q + 1.

    - "same transition": what is already written of the transition that the predicted token belongs to;
    - "previous transition": the whole transition before that one;
    - "same dimension": the predicted token's own slot in earlier transitions;
    - "same dimension, older": the same without the transition just before, which leaves the stripes;
    - "past actions": any action of earlier transitions.
    """
    places = torch.arange(length) - layout.goal
    predicted = places + 1
    time, slot = places // layout.transition, places % layout.transition
    row_time, row_slot = (predicted // layout.transition)[:, None], (predicted % layout.transition)[:, None]
    shown = (places >= 0) & torch.ones(length, length, dtype=torch.bool).tril()
    earlier = (time < row_time) & shown
    action = (slot >= layout.actions.start) & (slot < layout.actions.stop)
    return {
        "same transition": (time == row_time) & shown,
        "previous transition": (time == row_time - 1) & shown,
        "same dimension": earlier & (slot == row_slot),
        "same dimension, older": earlier & (slot == row_slot) & (time < row_time - 1),
        "past actions": earlier & action,
    }


def attention_shares(maps, layout, first=2):
    """How much of each head's attention lies on each pattern, averaged over what it predicts.

    Args:
        maps: (layers, B, heads, T, T) of `attention_maps`.
        first: predictions of transitions before this one do not count: they have little to look back at.

    Returns:
        {name: (layers, heads)} with the patterns of `patterns`, each a mean over all predictions from
        transition `first` on; "actions on past actions", over predicted actions only; and
        "actions on past states", over predicted actions, on earlier observations.
    """
    length = maps.shape[-1]
    predicted = torch.arange(length) + 1 - layout.goal
    counted, slot = predicted >= first * layout.transition, predicted % layout.transition
    acting = counted & (slot >= layout.actions.start) & (slot < layout.actions.stop)
    masks = patterns(layout, length)
    keys = (torch.arange(length) - layout.goal) % layout.transition
    states = (keys < layout.observation) & (torch.arange(length) >= layout.goal)
    earlier = ((torch.arange(length) - layout.goal) // layout.transition) < (predicted // layout.transition)[:, None]

    def share(mask, rows):
        return (maps * mask).sum(dim=-1)[..., rows].mean(dim=(1, 3))

    found = {name: share(mask, counted) for name, mask in masks.items() if name != "past actions"}
    found["actions on past actions"] = share(masks["past actions"], acting)
    found["actions on past states"] = share(earlier & states, acting)
    return found
