"""Discretizers: every dimension of a transition becomes one of V tokens (section 2).

Uniform bins have equal widths, quantile bins equal shares of the training data.
Both are the same thing afterwards, V + 1 rising edges a dimension, so that one
`Bins` encodes, decodes and takes expectations for either.

Where edges coincide (a column with one value that is very frequent, or only one)
they make a bin of no width. That value, and only it, gets this bin and decodes
to itself; an encoder that ignores the case would move it to the middle of a neighbour.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass
class Bins:
    """One row of bin edges a dimension.

    Attributes:
        edges: (D, V + 1) float32, not falling along each row.
    """

    edges: torch.Tensor

    def __post_init__(self):
        self.edges = self.edges.float().contiguous()
        if self.edges.ndim != 2 or (self.edges[:, 1:] < self.edges[:, :-1]).any():
            raise ValueError("bin edges are a (dimensions, bins + 1) array that never falls along a row.")
        self.midpoints = (self.edges[:, 1:] + self.edges[:, :-1]) / 2

    @property
    def size(self):
        """V, the number of bins of each dimension."""
        return self.edges.shape[1] - 1

    def to(self, device):
        return Bins(self.edges.to(device))

    def encode(self, values, dims=slice(None)):
        """Tokens of values.

        Args:
            values: (..., D) numbers; what lies outside of the edges goes to the outermost bins.
            dims: the rows of `edges` that the last axis of `values` stands for.

        Returns:
            (..., D) int64 in [0, V).

        Raises:
            ValueError: the last axis does not fit, or a value is not finite.
        """
        edges = self.edges[dims]
        if not isinstance(values, torch.Tensor):
            values = np.array(values, dtype=np.float32)  # a copy: torch warns of arrays that are read-only
        values = torch.as_tensor(values, dtype=torch.float32, device=edges.device)
        if values.shape[-1] != len(edges):
            raise ValueError(f"these bins are for {len(edges)} dimensions, the values have {values.shape[-1]}.")
        if not torch.isfinite(values).all():
            raise ValueError("values to encode must be finite.")
        columns = values.reshape(-1, len(edges)).T.contiguous()
        below = torch.searchsorted(edges, columns)
        up_to = torch.searchsorted(edges, columns, right=True)
        repeated = up_to - below > 1
        tokens = torch.where(repeated, below, up_to - 1).clamp(0, self.size - 1)
        return tokens.T.reshape(values.shape)

    def decode(self, tokens, dims=slice(None)):
        """Midpoints (..., D) float32 of the bins that `tokens` (..., D) name."""
        midpoints = self.midpoints[dims]
        return midpoints[torch.arange(len(midpoints), device=midpoints.device), tokens]

    def expectation(self, probabilities, dim):
        """Expected value (...) of dimension `dim` under `probabilities` (..., V) of its bins."""
        return probabilities @ self.midpoints[dim]

    def nearness(self, dim, tolerance):
        """How near the bins of dimension `dim` are to each other: (V, V), exp(-distance^2 / (2 tolerance^2)).

        Distances are between midpoints. Columns of bins that no value is encoded in are 0.
        """
        middles, wide = self.midpoints[dim], self.edges[dim].diff() > 0
        # Of bins without width that lie in one place, values get the first.
        used = wide | F.pad(wide[:-1], (1, 0), value=True)
        return torch.exp(-(((middles[:, None] - middles) / tolerance) ** 2) / 2) * used


def fit_uniform(data, bins=100):
    """`Bins` of equal width between the least and the largest value of each column of `data` (T, D)."""
    data = _checked(data)
    low, high = data.min(axis=0).astype(np.float64), data.max(axis=0).astype(np.float64)
    edges = np.linspace(low, high, bins + 1, axis=1).astype(np.float32)
    edges[:, 0], edges[:, -1] = low, high
    return Bins(torch.from_numpy(edges))


def fit_quantile(data, bins=100):
    """`Bins` that hold equal shares of each column of `data` (T, D); every edge is a value of the data."""
    data = _checked(data)
    ordered = np.sort(data, axis=0)
    rows = np.linspace(0, len(data) - 1, bins + 1).round().astype(int)
    return Bins(torch.from_numpy(np.ascontiguousarray(ordered[rows].T)))


FITS = {"uniform": fit_uniform, "quantile": fit_quantile}


def fit(data, bins=100, method="quantile"):
    """`Bins` for `data` (T, D) by the named method.

    Raises:
        ValueError: an unknown method, fewer than one bin, or data that is empty or not finite.
    """
    if method not in FITS:
        raise ValueError(f"there is no discretizer {method!r}; there are {' and '.join(FITS)}.")
    if bins < 1:
        raise ValueError(f"a dimension needs at least one bin, not {bins}.")
    return FITS[method](data, bins)


def _checked(data):
    data = np.asarray(data, dtype=np.float32)
    if data.ndim != 2 or data.size == 0:
        raise ValueError(f"bins are fitted to a (steps, dimensions) array that is not empty, not {data.shape}.")
    if not np.isfinite(data).all():
        raise ValueError("bins cannot be fitted to values that are not finite.")
    return data
