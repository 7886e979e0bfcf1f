"""Grid views as observations: encoders for transformers, of kinds or of pixels, and plain features for the rest."""

import numpy as np
import torch
from torch import nn

KINDS = 11  # of objects in minigrid
TILE = 5  # pixels along a side of a cell in a picture


class CellEncoder(nn.Module):
    """Views (rows, cells), the kind of object in each cell, to (rows, width).

    Each kind in each cell has a vector; their sum goes through a layer that can combine them.
    """

    def __init__(self, cells, width):
        super().__init__()
        self.kinds = nn.EmbeddingBag(cells * KINDS, width, mode="sum")
        self.combine = nn.Sequential(nn.ReLU(), nn.Linear(width, width))
        self.register_buffer("offsets", KINDS * torch.arange(cells), persistent=False)

    def forward(self, views):
        return self.combine(self.kinds(views.long() + self.offsets))


def features(views, times, longest):
    """(rows, cells * KINDS + longest) zeros and ones for views (rows, cells) at `times` (rows,) of an episode."""
    kinds = np.eye(KINDS, dtype=np.float32)[np.asarray(views, dtype=int)].reshape(len(views), -1)
    return np.concatenate([kinds, np.eye(longest, dtype=np.float32)[np.asarray(times, dtype=int)]], axis=1)


class PictureEncoder(nn.Sequential):
    """A small CNN from pictures (rows, 3 * side * side), `side` pixels high and wide, to (rows, width)."""

    def __init__(self, side, width):
        cells = side // TILE
        super().__init__(
            nn.Unflatten(1, (3, side, side)),
            nn.Conv2d(3, 32, TILE, stride=TILE),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * cells * cells, width),
        )


def pictures(views):
    """(rows, 3 * side * side) float32 in [0, 1]: minigrid's drawing of views (rows, cells), channel first."""
    from minigrid.core.constants import IDX_TO_OBJECT
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import Ball, Door, Key, Wall

    things = {"wall": Wall(), "ball": Ball("blue"), "key": Key("yellow"), "door": Door("yellow", is_locked=True)}
    tiles = np.zeros((KINDS, TILE, TILE, 3))  # what is unseen stays black
    for kind in range(1, KINDS):
        tiles[kind] = Grid.render_tile(things.get(IDX_TO_OBJECT[kind]), highlight=True, tile_size=TILE)
    views = np.asarray(views, dtype=int)
    cells = round(views.shape[1] ** 0.5)
    # A view is indexed [x][y], a picture channel, row, column.
    drawn = tiles[views.reshape(-1, cells, cells)].transpose(0, 5, 2, 3, 1, 4)
    return (drawn.reshape(len(views), -1) / 255).astype(np.float32)
