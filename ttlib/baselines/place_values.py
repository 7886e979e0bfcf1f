"""V of places: dynamic programming over a maze that is cut into half-metre cells.

A maze's task is where to go. V of an ant's whole state, a network of 29 numbers, leans on poses that happen to be
recorded near the goal; V of the place alone is a table, which dynamic programming fills in seconds, and exactly.

As in IQL (Kostrikov et al. 2022) V is the upper expectile, over what was recorded in a cell, of what it came to: the
rewards of the next few steps, and V of the place where they ended. In a world without chance that was due to the
actions. And it is *cautious*: as if every cell had also seen some recordings that stayed where they were. Where much
is recorded they count little; where a few bodies squeezed past a corner they do, so nobody is sent that way.
"""

import torch
from torch import nn


class PlaceValues(nn.Module):
    """V of places (x, y) as a table, read between the middles of its cells.

    Args:
        shape: (rows, columns) of the table, along y and x.
        side: of a cell, metres.
        least: V of where nothing was recorded.
    """

    def __init__(self, shape, side=0.5, least=0.0):
        super().__init__()
        self.shape, self.side, self.least = tuple(shape), side, least
        self.register_buffer("corner", torch.zeros(2))  # the lowest x and y
        self.register_buffer("values", torch.full(self.shape, float(least)))
        self.register_buffer("visited", torch.zeros(self.shape))

    def cells(self, places):
        """(...) which cell, counted along the rows, places (..., 2) lie in; the nearest one for places outside."""
        column, row = ((places - self.corner) / self.side).floor().long().unbind(dim=-1)
        rows, columns = self.shape
        return row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)

    def corners(self, places):
        """(..., 4) the cells whose middles are around places (..., 2), and (..., 4) their weights, of visited ones."""
        at = (places - self.corner) / self.side - 0.5
        below, share = at.floor(), at - at.floor()
        cells, weights = [], []
        for right in (0, 1):
            for up in (0, 1):
                step = torch.tensor([right, up], dtype=at.dtype, device=at.device)
                cells.append(self.cells(self.corner + (below + step + 0.5) * self.side))
                weights.append((share * step + (1 - share) * (1 - step)).prod(dim=-1))
        cells = torch.stack(cells, dim=-1)
        return cells, torch.stack(weights, dim=-1) * self.visited.flatten()[cells]

    def forward(self, places):
        """(...) V of places (..., 2); `least` where no cell around was visited."""
        cells, weights = self.corners(places)
        total = weights.sum(dim=-1)
        value = (weights * self.values.flatten()[cells]).sum(dim=-1) / total.clamp(min=1e-6)
        return torch.where(total > 1e-6, value, self.least)

    @torch.no_grad()
    def fit(self, transitions, expectile, discount, n_step, step_reward, caution=1.0, tolerance=0.01, sweeps=2000):
        """Fill the table from stretches of recordings; all cells begin with the least value.

        Args:
            transitions: `common.Transitions` of `n_step`; x and y are an observation's first two numbers.
            expectile: tau.
            step_reward: reward of a step that does not come to the goal.
            caution: how many stretches that stay each cell is held to have seen, in units of what a cell has on
                average.
            tolerance, sweeps: stop once no cell changes by more than that, or after so many.

        Returns:
            How many sweeps it took.
        """
        places = transitions.observations[:, :2]
        start = self.cells(places[transitions.now])
        counts = torch.bincount(start, minlength=self.values.numel()).float()
        self.visited.copy_((counts > 0).float().view(self.shape))
        corners, weights = self.corners(places[transitions.then])
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
        onward = discount**transitions.passed * (1 - transitions.terminals)
        stay = (1 - expectile) * caution * counts.sum() / (counts > 0).sum()
        waiting = step_reward * (1 - discount**n_step) / (1 - discount)
        values, seen = torch.full_like(counts, self.least), counts > 0
        for sweep in range(1, sweeps + 1):
            came_to = transitions.rewards + onward * (weights * values[corners]).sum(dim=1)
            share = torch.where(came_to > values[start], expectile, 1 - expectile)
            above = torch.bincount(start, share * came_to, len(values)) + stay * (waiting + discount**n_step * values)
            new = torch.where(seen, above / (torch.bincount(start, share, len(values)) + stay), self.least).float()
            change, values = (new - values).abs().max(), new
            if change < tolerance:
                break
        self.values.copy_(values.view(self.shape))
        return sweep
