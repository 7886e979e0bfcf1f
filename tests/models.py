"""Random models and tokenizers for tests: large weights, so that logits are far from flat."""

import torch

from ttlib.discretize import Bins
from ttlib.model import TrajectoryTransformer
from ttlib.tokens import Tokenizer


def random_model(layout, seed=0, vocabulary=20, transitions=6, layers=2, heads=2, width=32):
    torch.manual_seed(seed)
    model = TrajectoryTransformer(layout, vocabulary, transitions, layers, heads, width).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3) if parameter.ndim > 1 else None
    return model


def random_tokenizer(layout, vocabulary=20, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randn(layout.transition, vocabulary + 1, generator=generator).sort(dim=1).values
    return Tokenizer(layout, Bins(edges), **settings)


def random_tokens(model, rows, length, seed=0):
    return torch.randint(model.vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))
