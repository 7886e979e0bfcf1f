"""Attention: maps are those that the model uses, and shares are counted as named."""

import torch
from torch.nn import functional as F

from tests.models import random_model, random_tokens
from ttlib.attention import attention_maps, attention_shares, patterns
from ttlib.tokens import Layout


def test_maps_are_what_the_model_mixes_its_values_with():
    """A forward pass that takes its attention from the maps gives the model's logits."""
    model = random_model(Layout(2, 1), transitions=3)
    tokens = random_tokens(model, 2, 9)
    maps = attention_maps(model, tokens)
    assert maps.shape == (2, 2, 2, 9, 9)
    with torch.no_grad():
        x = model.embed(tokens)
        for block, weights in zip(model.blocks, maps, strict=True):
            _, _, value = block.project(x)
            x = x + block.out((weights @ value).transpose(1, 2).flatten(2))
            x = x + block.feed_forward(x)
        last = F.linear(model.norm(x[:, -1]), model.head[model.slot_after(8)])
        torch.testing.assert_close(last, model(tokens)[:, -1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 2, 2, 9))
    assert maps.triu(1).abs().max() == 0 and maps[..., 4].abs().max() == 0  # the future, and a reward-to-go


def test_patterns_by_hand():
    """s1 s2 a | s1 s2 a | s1 s2 a: what the last s2, at position 7, is predicted from."""
    masks = {
        name: mask[6].nonzero().flatten().tolist() for name, mask in patterns(Layout(2, 1, values=False), 9).items()
    }
    assert masks == {
        "same transition": [6],
        "previous transition": [3, 4, 5],
        "same dimension": [1, 4],
        "same dimension, older": [1],
        "past actions": [2, 5],
    }


def test_shares_of_heads_that_do_one_thing():
    """One head looks three tokens back, before the predicted token's slot; one at this slot itself; one evenly."""
    layout, length = Layout(2, 1, values=False), 12
    maps = torch.zeros(1, 1, 3, length, length)
    for q in range(length):
        maps[0, 0, 0, q, max(q - 3, 0)] = 1  # three back: in the transition before, except for what begins one
        maps[0, 0, 1, q, max(q - 2, 0)] = 1  # the predicted token's own slot, one transition earlier
        maps[0, 0, 2, q, : q + 1] = 1 / (q + 1)
    found = attention_shares(maps, layout)
    assert found["same dimension"][0, :2].tolist() == [0.0, 1.0]
    assert found["same dimension, older"][0, :2].tolist() == [0.0, 0.0] and found["same dimension, older"][0, 2] > 0
    assert found["actions on past actions"][0, :2].tolist() == [0.0, 1.0]
    assert found["actions on past states"][0, 0] == 1.0
    assert found["previous transition"][0, 1] == 1.0 and found["same transition"][0, 1] == 0.0
    rows = [q for q in range(length) if q + 1 >= 6]
    even = sum(sum((k // 3) == (q + 1) // 3 - 1 for k in range(q + 1)) / (q + 1) for q in rows) / len(rows)
    torch.testing.assert_close(found["previous transition"][0, 2], torch.tensor(even))
