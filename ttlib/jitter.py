"""Jitter: a model that reads states as nearly what they were, so that it is at home among its own mistakes.

In training every state that a model reads was recorded. When it draws a future it reads states that it drew itself,
each a little off, and what it makes of those it was never taught: errors add up. So in training the states that are
read are moved a little, while what is to be predicted stays what was recorded (as Sanchez-Gonzalez et al., 2020, do
for learned simulators). How far differs from window to window, so that one that moves little can be trusted.
"""

import torch


def jittered(tokens, layout, bins, spread):
    """Tokens (B, T) with those of observations moved to bins nearby, each by a rounded Gaussian.

    Args:
        bins: V; tokens from V on, such as the stop token, stay, and none becomes one.
        spread: standard deviation in bins of the window that moves most; each window has a share of it between 0 and 1.
    """
    slots = (torch.arange(tokens.shape[1], device=tokens.device) - layout.goal) % layout.transition
    moves = (slots < layout.observation) & (torch.arange(len(slots), device=tokens.device) >= layout.goal)
    share = torch.rand(len(tokens), 1, device=tokens.device)
    moved = tokens + (spread * share * torch.randn(tokens.shape, device=tokens.device)).round().long()
    return torch.where(moves & (tokens < bins), moved.clamp(0, bins - 1), tokens)
