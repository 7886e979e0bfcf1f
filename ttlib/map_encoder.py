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

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x):
        return x + self.second(F.gelu(self.first(F.gelu(each_place(self.norm, x)))))


def each_place(module, x):
    """`module` of the features at each place of x (I, features, height, width)."""
    return module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MapEncoder(nn.Module):
    """Images (I, channels, size, size) -> vectors (I, width).

    Nothing is pooled: where a wall or door lies is all that matters. The norms are needed: without
    them all units of a layer can fall silent early, and the model never learns to look.
    """

    def __init__(self, channels, size, width, features=64, blocks=3, narrow=12, hidden=512):
        super().__init__()
        half = (size + 1) // 2
        places = torch.linspace(-1, 1, size)
        self.register_buffer("places", torch.stack(torch.meshgrid(places, places, indexing="ij")), persistent=False)
        self.read = nn.Conv2d(channels + 2, features, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Residual(features) for _ in range(blocks)))
        self.norm = nn.LayerNorm(features)
        self.narrow = nn.Linear(features, narrow)
        self.wide = nn.Linear(narrow * half * half, hidden)
        self.mix_norm, self.mix = nn.LayerNorm(hidden), nn.Linear(hidden, hidden)
        self.out_norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, width)
        nn.init.normal_(self.out.weight, std=0.003)  # as large as the embeddings that it is added to

    def forward(self, images):
        x = torch.cat([images.float(), self.places.expand(len(images), -1, -1, -1)], dim=1)
        x = self.blocks(self.read(x.contiguous(memory_format=torch.channels_last)))
        x = each_place(lambda features: self.narrow(F.gelu(self.norm(features))), x)
        x = F.gelu(self.wide(x.flatten(1)))
        x = x + F.gelu(self.mix(self.mix_norm(x)))
        return self.out(self.out_norm(x))


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
