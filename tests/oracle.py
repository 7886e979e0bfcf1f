"""The slow way, kept as the reference that the fast way is held against.

Every token costs a forward pass over its whole sequence; nothing is cached, nothing
shared between beams. Only the model's weights and `sample` are common to both.
"""

import math

import torch
from torch.nn import functional as F

from ttlib.choice import expectation, likeliest, sample


def next_logits(model, sequences, keep, context=None):
    """Logits (rows, V + 1) after sequences (rows, T), cropped as search crops them."""
    goal, transition = model.layout.goal, model.layout.transition
    while sequences.shape[1] >= model.length:
        # What comes after a full window is predicted from its last `keep` transitions.
        start = model.length - keep * transition
        sequences = torch.cat([sequences[:, :goal], sequences[:, start:]], dim=1)
    with torch.no_grad():
        return model(sequences, context)[:, -1]


def beam_search(model, prompt, steps, beam_width, keep=4, nearness=None, actions_only=False):
    """Algorithm 1 for one prompt (T,), over Python lists."""
    layout, bins = model.layout, range(model.vocabulary)
    beams = [((), 0.0)]
    for _ in range(steps):
        candidates = []
        for written, score in beams:
            sequence = torch.cat([prompt, torch.tensor(written, dtype=torch.int64)])[None]
            slot = (sequence.shape[1] - layout.goal) % layout.transition
            likelihood = F.softmax(next_logits(model, sequence, keep)[0], dim=-1).tolist()
            if actions_only and not layout.actions.start <= slot < layout.actions.stop:
                candidates.append(((*written, max(bins, key=likelihood.__getitem__)), score))
                continue
            if nearness and slot in nearness:
                near = nearness[slot].tolist()
                likelihood = [sum(likelihood[i] * near[i][j] for i in bins) for j in bins]
            candidates += [((*written, v), score + math.log(likelihood[v])) for v in bins]
        beams = sorted(candidates, key=lambda candidate: -candidate[1])[:beam_width]
    return beams


def plan_by_return(
    model, tokenizer, prompt, horizon, beam_width, expand, drop_mass, generator, keep=4, top_k=None, nearness=None
):
    """The return planner for one prompt (T,), every sequence kept whole. Returns sequences and scores, best first."""
    layout, discount = model.layout, tokenizer.discount
    sequences, earned, dead = prompt.repeat(beam_width, 1), torch.zeros(beam_width), [False] * beam_width
    for t in range(horizon):
        sequences, earned = sequences.repeat_interleave(expand, dim=0), earned.repeat_interleave(expand)
        for slot in range(layout.actions.start, layout.actions.stop):
            uniform = torch.rand(len(sequences), generator=generator)
            near = nearness[slot] if nearness else None
            token = sample(next_logits(model, sequences, keep), uniform, top_k, drop_mass, near)
            sequences = torch.cat([sequences, token[:, None]], dim=1)
        logits = next_logits(model, sequences, keep)
        earned = earned + discount**t * expectation(logits, tokenizer, layout.reward)
        sequences = torch.cat([sequences, likeliest(logits)[:, None]], dim=1)
        logits = next_logits(model, sequences, keep)
        scores = earned + discount ** (t + 1) * expectation(logits, tokenizer, layout.value_slot)
        sequences = torch.cat([sequences, likeliest(logits)[:, None]], dim=1)
        seen, dead = set(), [parent for parent in dead for _ in range(expand)]
        for row, sequence in enumerate(sequences.tolist()):
            dead[row] |= tuple(sequence) in seen
            seen.add(tuple(sequence))
        rows = sorted(range(len(scores)), key=lambda row: (dead[row], -scores[row].item()))[:beam_width]
        best = sorted(rows, key=lambda row: (dead[row], row))
        sequences, earned, scores, dead = sequences[best], earned[best], scores[best], [dead[row] for row in best]
        for _ in range(layout.observation if t < horizon - 1 else 0):
            token = likeliest(next_logits(model, sequences, keep))
            sequences = torch.cat([sequences, token[:, None]], dim=1)
    alive = ~torch.tensor(dead)
    sequences, scores = sequences[alive], scores[alive]
    order = scores.argsort(descending=True)
    return sequences[order, len(prompt) :], scores[order]
