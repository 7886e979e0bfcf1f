"""Behaviour policies as plain tensors: how they act, and how a list of them becomes one file."""

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class Behaviour:
    """A Gaussian policy: a small network on standardised observations, state-independent spread.

    Attributes:
        weights: list of (weight (out, in), bias (out,)) pairs, first layer to last.
        mean, std: what observations are standardised with, (N,) each.
        log_std: log of the actions' standard deviation, (M,).
        info: what is known of it; "activation" is that of the network, tanh when left out.
    """

    weights: list
    mean: torch.Tensor
    std: torch.Tensor
    log_std: torch.Tensor
    info: dict = field(default_factory=dict)

    def act(self, observations, rng, noise=1.0):
        """Sample actions (E, M) in [-1, 1] for observations (E, N), both numpy arrays."""
        x = torch.as_tensor(observations, dtype=torch.float32)
        x = ((x - self.mean) / self.std).clamp(-10, 10)
        activation = {"tanh": torch.tanh, "relu": torch.relu}[self.info.get("activation", "tanh")]
        for weight, bias in self.weights[:-1]:
            x = activation(x @ weight.T + bias)
        weight, bias = self.weights[-1]
        mean = (x @ weight.T + bias).numpy()
        spread = self.log_std.exp().numpy()
        return np.clip(mean + noise * spread * rng.standard_normal(mean.shape), -1, 1).astype(np.float32)


def pack(behaviours):
    """Turn a list of behaviours into named tensors, one row a behaviour."""
    tensors = {}
    for layer in range(len(behaviours[0].weights)):
        tensors[f"weight{layer}"] = torch.stack([b.weights[layer][0] for b in behaviours])
        tensors[f"bias{layer}"] = torch.stack([b.weights[layer][1] for b in behaviours])
    for name in ("mean", "std", "log_std"):
        tensors[name] = torch.stack([getattr(b, name) for b in behaviours])
    return tensors


def unpack(tensors, infos):
    """The list of behaviours that `pack` packed; `infos` has one dict for each."""
    layers = sum(name.startswith("weight") for name in tensors)
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    return [
        Behaviour(
            [(tensors[f"weight{k}"][i], tensors[f"bias{k}"][i]) for k in range(layers)],
            tensors["mean"][i],
            tensors["std"][i],
            tensors["log_std"][i],
            info,
        )
        for i, info in enumerate(infos)
    ]
