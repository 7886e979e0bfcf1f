"""How well predicted returns rank the actions of one state.

    python benchmarks/ranking.py local:walker2d-medium data/checkpoints/walker2d-medium.safetensors ...

A planner that looks one transition ahead chooses among actions of one state, which differ little in what they earn.
Here each model's predicted return r + discount R of such actions is compared with what small networks make of them that
were fitted to the same recorded returns, by least squares: the correlation within a state, averaged over states. How
far the networks agree among each other, which differ in their seed, is what can be expected.
"""

import argparse

import numpy as np
import torch
from torch.nn import functional as F

from ttlib.baselines.common import Standardize, mlp
from ttlib.choice import expectation, likeliest, sample
from ttlib.datasets import load
from ttlib.model import load_model
from ttlib.tokens import TokenWindows

BATCH, RATE = 256, 1e-3


def fit_network(inputs, returns, seed, updates):
    """A network of (T, N + M) inputs, fitted to (T,) returns of mean 0 and spread 1; the rate falls to 0."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = mlp(inputs.shape[1], 1, (256, 256))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = RATE * (1 - update / updates)
        rows = torch.randint(len(inputs), (BATCH,), generator=generator)
        F.mse_loss(network(inputs[rows])[:, 0], returns[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


@torch.inference_mode()
def draw_actions(model, observations, generator):
    """Tokens (B, M) of actions as the model would take them, for tokens (B, N), without the unlikeliest tenth."""
    tokens = observations
    for _ in range(model.layout.action):
        uniform = torch.rand(len(tokens), generator=generator)
        tokens = torch.cat([tokens, sample(model(tokens)[:, -1], uniform, drop_mass=0.1)[:, None]], dim=1)
    return tokens[:, model.layout.actions]


@torch.inference_mode()
def predicted_returns(model, tokenizer, tokens):
    """(B,) r + discount R of tokens (B, N + M): a state and an action each."""
    found = []
    for part in tokens.split(1024):
        logits = model(part)[:, -1]
        reward = expectation(logits, tokenizer, model.layout.reward)
        part = torch.cat([part, likeliest(logits)[:, None]], dim=1)
        value = expectation(model(part)[:, -1], tokenizer, model.layout.value_slot)
        found.append(reward + tokenizer.discount * value)
    return torch.cat(found)


def agreement(one, other):
    """Mean over states of the correlation of two opinions (states, actions)."""
    one, other = (each - each.mean(dim=1, keepdim=True) for each in (one, other))
    return float(((one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1)).clamp(min=1e-9)).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("checkpoints", nargs="+", help="of that data set; the first one's actions are judged")
    for name, default in (("states", 256), ("actions", 32), ("networks", 2), ("updates", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--timeout-margin", type=int, default=0, help="as in ttlib.training, for the networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trajectories, generator = load(options.dataset), torch.Generator().manual_seed(0)
    model, tokenizer, _ = load_model(options.checkpoints[0])
    layout = model.layout
    columns = torch.from_numpy(tokenizer.columns(trajectories))
    observations, actions = columns[:, layout.observations], columns[:, layout.actions]
    returns = columns[:, layout.reward] + tokenizer.discount * columns[:, layout.value_slot]
    _, counted = TokenWindows(tokenizer, trajectories, 1, timeout_margin=options.timeout_margin).batch(
        range(len(columns))
    )
    known = counted[:, layout.value_slot]

    states = observations[torch.randperm(len(columns), generator=generator)[: options.states]]
    states = states.repeat_interleave(options.actions, dim=0)
    judged = draw_actions(model, tokenizer.bins.encode(states, layout.observations), generator)
    judged = tokenizer.bins.decode(judged, layout.actions)

    standardize = Standardize(layout.observation)
    standardize.fit(observations.numpy())
    inputs, returns = torch.cat([standardize(observations), actions], dim=1)[known], returns[known]
    targets = (returns - returns.mean()) / returns.std()
    opinions = []
    for seed in range(options.networks):
        network = fit_network(inputs, targets, seed, options.updates)
        with torch.no_grad():
            opinions.append(network(torch.cat([standardize(states), judged], dim=1)).view(-1, options.actions))
    pairs = [agreement(a, b) for n, a in enumerate(opinions) for b in opinions[:n]]
    if pairs:
        print(f"two networks agree with {np.mean(pairs):.2f}")
    for path in options.checkpoints:
        model, tokenizer, _ = load_model(path)
        tokens = [tokenizer.bins.encode(states, layout.observations), tokenizer.bins.encode(judged, layout.actions)]
        returns = predicted_returns(model, tokenizer, torch.cat(tokens, dim=1)).view(-1, options.actions)
        print(f"{path} agrees with their mean with {agreement(returns, torch.stack(opinions).mean(dim=0)):.2f}")


if __name__ == "__main__":
    main()
