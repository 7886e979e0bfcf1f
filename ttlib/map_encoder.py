"""A model that sees a map: the Trajectory Transformer with a small convolutional network (appendix F).

The network's output, one vector an image, is added to the embedding of every token, as a
position's embedding is. Nothing else of the model changes; agent and goal are tokens, not pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ttlib.model import TrajectoryTransformer


class MapEncoder(nn.Module):
    """Images (I, channels, size, size) -> vectors (I, width).

    Nothing is pooled: where a wall or door lies is all that matters. And nothing is added before the
    wide layer, neither biases nor the places' coordinates: what all maps have in common would be
    large beside what tells them apart, which bfloat16 would then round away.
    """

    def __init__(self, channels, size, width, features=64, narrow=12, hidden=512):
        super().__init__()
        half, plain = (size + 1) // 2, {"padding": 1, "bias": False}
        self.look = nn.Sequential(
            nn.Conv2d(channels, features // 2, 3, **plain),
            nn.GELU(),
            nn.Conv2d(features // 2, features, 3, stride=2, **plain),
            nn.GELU(),
            nn.Conv2d(features, features, 3, **plain),
            nn.GELU(),
            nn.Conv2d(features, narrow, 1, bias=False),
        )
        self.wide = nn.Linear(narrow * half * half, hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, width, bias=False)
        for layer in self.look[::2]:
            nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(self.wide.weight, std=0.05)

    def forward(self, images):
        x = self.look(images.float().contiguous(memory_format=torch.channels_last))
        x = F.gelu(self.wide(x.flatten(1)))
        x = x + F.gelu(self.mix(x))
        # As large as the embeddings that it is added to, so that neither drowns the other.
        return 0.05 * F.layer_norm(self.out(x), self.out.weight.shape[:1])


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
