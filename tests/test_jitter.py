import torch

from ttlib.jitter import jittered
from ttlib.tokens import Layout

LAYOUT = Layout(3, 2, values=False, goal=1)


def windows():
    torch.manual_seed(0)
    tokens = torch.full((400, LAYOUT.length(4)), 50)
    tokens[:, 3], tokens[:, 6], tokens[:, -5:] = 0, 99, 100
    return tokens


def test_only_observations_move_and_no_token_leaves_its_slot():
    tokens = windows()
    moved = jittered(tokens, LAYOUT, 100, 3.0)
    still = [0, 4, 5, 9, 10, 14, 15, *range(16, 21)]  # goal, actions, stop tokens
    assert torch.equal(moved[:, still], tokens[:, still])
    assert (moved != tokens).any(dim=0).sum() == len(tokens[0]) - len(still)
    assert moved.min() == 0 and moved[:, :-5].max() <= 99


def test_windows_move_differently_and_none_by_more_than_the_spread():
    moves = (jittered(windows(), LAYOUT, 100, 3.0) - windows())[:, [1, 2, 7, 8, 11, 12, 13]].float()
    spreads = moves.std(dim=1)
    assert spreads.min() < 0.5 and 2.5 < spreads.max() < 6.0
    assert abs(moves.square().mean() - 3.0 + 1 / 12) < 0.6  # the mean of (3 u)^2 over u is 3
    assert torch.equal(jittered(windows(), LAYOUT, 100, 0.0), windows())
