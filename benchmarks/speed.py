"""Measured speed: planning against recomputing everything, training against a plain loop.

    python benchmarks/speed.py planning
    python benchmarks/speed.py training

Both sides of each ratio run in one process, with the same random weights (full size,
Hopper layout) and threads. Nothing here is a test: a timing belongs to its machine.
"""

import argparse
import statistics
import time

import torch
from torch.nn import functional as F

from ttlib import model as model_module
from ttlib.choice import expectation, likeliest, sample
from ttlib.discretize import Bins
from ttlib.loss import slot_weights, token_losses
from ttlib.model import TrajectoryTransformer
from ttlib.search import plan_by_return
from ttlib.settings import Settings, keep_freed_memory, make_optimizer
from ttlib.tokens import Layout, Tokenizer

HOPPER = Layout(observation=11, action=3)


def hopper_sized():
    """A full-size model with random weights, and a tokenizer with random bins."""
    torch.manual_seed(0)
    model = TrajectoryTransformer(HOPPER).eval()
    return model, Tokenizer(HOPPER, Bins(torch.randn(HOPPER.transition, 101).sort(dim=1).values))


@torch.inference_mode()
def naive_plan(model, tokenizer, prompt, horizon, beam_width, expand=2, drop_mass=0.6, context=5, generator=None):
    """The return planner as the reference code has it: for every token, the last `context` transitions of every
    beam go through the whole model again."""

    def logits():
        begun = (sequences.shape[1] - 1) // layout.transition
        return model(sequences[:, max(0, begun + 1 - context) * layout.transition :])[:, -1]

    layout, discount = model.layout, tokenizer.discount
    sequences, earned = prompt.expand(beam_width, -1), torch.zeros(beam_width)
    for t in range(horizon):
        sequences, earned = sequences.repeat_interleave(expand, dim=0), earned.repeat_interleave(expand)
        for _ in range(layout.action):
            token = sample(logits(), torch.rand(len(sequences), generator=generator), None, drop_mass)
            sequences = torch.cat([sequences, token[:, None]], dim=1)
        after = logits()
        earned = earned + discount**t * expectation(after, tokenizer, layout.reward)
        sequences = torch.cat([sequences, likeliest(after)[:, None]], dim=1)
        after = logits()
        scores = earned + discount ** (t + 1) * expectation(after, tokenizer, layout.value_slot)
        sequences = torch.cat([sequences, likeliest(after)[:, None]], dim=1)
        best = scores.topk(beam_width).indices
        sequences, earned = sequences[best], earned[best]
        for _ in range(layout.observation if t < horizon - 1 else 0):
            sequences = torch.cat([sequences, likeliest(logits())[:, None]], dim=1)
    return sequences[0]


def seconds(function, repeats):
    """Median seconds of a call, after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def planning(repeats):
    keep_freed_memory()  # which helps the naive planner more
    model, tokenizer = hopper_sized()
    prompt = torch.randint(100, (8, HOPPER.length(4) + HOPPER.observation))
    print(f"one decision, median of {repeats}, {torch.get_num_threads()} threads, float32")
    print("beam horizon environments   naive ms   cached ms   times faster")
    for beam, horizon in ((32, 5), (128, 15)):
        slow = seconds(lambda: naive_plan(model, tokenizer, prompt[:1], horizon, beam), max(1, repeats // 5))  # noqa: B023
        for episodes in (1, 8):
            fast = seconds(lambda: plan_by_return(model, tokenizer, prompt[:episodes], horizon, beam), repeats)  # noqa: B023
            per_decision = fast / episodes
            line = f"{beam:4d} {horizon:7d} {episodes:12d} {1000 * slow:10.0f} {1000 * per_decision:11.1f}"
            print(f"{line} {slow / per_decision:14.1f}", flush=True)


def training(repeats):
    batch, length = 64, HOPPER.length(10)
    tokens = torch.randint(100, (batch, length))
    weights = slot_weights(HOPPER, length, 5.0)
    rates = {}
    for name, bf16, microbatch, dropout in (
        ("plain float32", False, batch, F.dropout),
        ("ttlib, bfloat16", True, Settings().microbatch, model_module.dropout),
    ):
        if bf16:
            keep_freed_memory()
        ours, model_module.dropout = model_module.dropout, dropout
        torch.manual_seed(0)
        model = TrajectoryTransformer(HOPPER).train()
        optimizer = make_optimizer(model, Settings())

        def step(model=model, optimizer=optimizer, bf16=bf16, microbatch=microbatch):
            for part in tokens.split(microbatch):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    losses = token_losses(model, part)
                (losses * weights).sum().div(tokens.numel()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        rates[name] = batch * (length - 1) / seconds(step, repeats)
        model_module.dropout = ours
        print(f"{name:16s} {rates[name]:10,.0f} tokens/s, batch {batch}, {torch.get_num_threads()} threads", flush=True)
    plain, fast = rates.values()
    print(f"{fast / plain:.2f} times the tokens/s")


def main():
    parser = argparse.ArgumentParser(description="Measure planning or training speed.")
    parser.add_argument("what", choices=["planning", "training"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    {"planning": planning, "training": training}[options.what](options.repeats)


if __name__ == "__main__":
    main()
