"""A model that sees a map: the Trajectory Transformer with a small convolutional network (appendix F).

The network's output, one vector an image, is added to the embedding of every token, as a
position's embedding is. Nothing else of the model changes; agent and goal are tokens, not pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ttlib.model import TrajectoryTransformer


class Residual(nn.Module):
    """x + two 3 x 3 convolutions of it."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.second(F.relu(self.first(F.relu(x))))


class MapEncoder(nn.Module):
    """Images (I, channels, size, size) -> vectors (I, width).

    Nothing is pooled: where a wall or door lies is all that matters.
    """

    def __init__(self, channels, size, width, features=64, blocks=3, narrow=12, hidden=512):
        super().__init__()
        half = (size + 1) // 2
        places = torch.linspace(-1, 1, size)
        self.register_buffer("places", torch.stack(torch.meshgrid(places, places, indexing="ij")), persistent=False)
        self.read = nn.Conv2d(channels + 2, features, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Residual(features) for _ in range(blocks)))
        self.narrow = nn.Conv2d(features, narrow, 1)
        self.wide = nn.Linear(narrow * half * half, hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, images):
        x = torch.cat([images.float(), self.places.expand(len(images), -1, -1, -1)], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.narrow(F.relu(self.blocks(self.read(x)))))
        x = F.relu(self.wide(x.flatten(1)))
        return self.out(x + F.relu(self.mix(x)))


class MapTransformer(TrajectoryTransformer):
    """`TrajectoryTransformer` whose context comes from images; `load_model(..., build=MapTransformer)` reads one.

    Args:
        layout, vocabulary, transitions, size: as for the model without a map.
        channels, grid: of the images (channels, grid, grid).
        encoder: keyword arguments of `MapEncoder`.
    """

    kind = "trajectory transformer with a map"

    def __init__(self, layout, vocabulary=25, transitions=2, channels=3, grid=25, encoder=None, **size):
        super().__init__(layout, vocabulary, transitions, **size)
        self.channels, self.grid, self.shape = channels, grid, encoder or {}
        self.encoder = MapEncoder(channels, grid, self.width, **self.shape)

    def size(self):
        return super().size() | {"channels": self.channels, "grid": self.grid, "encoder": self.shape}

    def forward(self, tokens, seen):
        """As `TrajectoryTransformer.forward`; `seen` is images (I, C, G, G) and (B,) which of them each row sees."""
        images, rows = seen
        return super().forward(tokens, self.encoder(images)[rows])
