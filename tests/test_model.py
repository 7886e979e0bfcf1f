import pytest
import torch
from torch.nn import functional as F

from tests.models import random_model, random_tokenizer, random_tokens
from ttlib import checkpoints
from ttlib.model import Segment, TrajectoryTransformer, decode_one_token, load_model, prefill, save_model
from ttlib.tokens import Layout

LAYOUTS = [Layout(11, 3), Layout(4, 2, values=False), Layout(2, 2, values=False, goal=2), Layout(3, 1, goal=3)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_cached_decoding_equals_the_full_forward(layout, seed):
    model = random_model(layout, seed)
    tokens = random_tokens(model, 3, model.length, seed)
    context = torch.randn(3, model.width, generator=torch.Generator().manual_seed(seed)) if seed else None
    with torch.no_grad():
        full = model(tokens, context)
    for prompt in (1, layout.length(1) + 1, layout.length(3)):
        logits, read = prefill(model, tokens[:, :prompt], context)
        own = Segment.empty(model, 3, model.length)
        assert (logits - full[:, prompt - 1]).abs().max() <= 1e-4
        for position in range(prompt, model.length):
            logits = decode_one_token(model, tokens[:, position], position, [read, own], context)
            assert (logits - full[:, position]).abs().max() <= 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_that_share_a_segment_read_the_same_past(layout):
    model = random_model(layout)
    length = layout.length(2) + layout.observation
    tokens = random_tokens(model, 2, length).repeat_interleave(3, dim=0)
    last = random_tokens(model, 6, 1, seed=5)
    _, shared = prefill(model, tokens[::3])
    logits = decode_one_token(model, last[:, 0], length, [shared, Segment.empty(model, 6, 1)])
    with torch.no_grad():
        full = model(torch.cat([tokens, last], dim=1))[:, -1]
    assert (logits - full).abs().max() <= 1e-4


def test_nothing_depends_on_later_tokens():
    model = random_model(Layout(3, 1))
    tokens = random_tokens(model, 2, model.length)
    for position in range(1, model.length):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % model.vocabulary
        with torch.no_grad():
            before, after = model(tokens), model(changed)
        assert torch.equal(before[:, :position], after[:, :position])
        assert not torch.allclose(before[:, position], after[:, position])


def test_no_other_position_depends_on_a_reward_to_go():
    layout = Layout(3, 1)
    model = random_model(layout)
    tokens = random_tokens(model, 2, model.length)
    changed = tokens.clone()
    values = torch.tensor([layout.is_value(position) for position in range(model.length)])
    changed[:, values] = (changed[:, values] + 7) % model.vocabulary
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, ~values], after[:, ~values])
    assert not torch.allclose(before[:, values], after[:, values])


def test_each_slot_has_its_own_embedding_and_head():
    layout = Layout(2, 1, goal=1)
    model = random_model(layout)
    tokens = torch.full((1, model.length), 3)
    slots = [layout.transition] + list(range(layout.transition)) * model.transitions
    with torch.no_grad():
        embedded = (model.embed(tokens) - model.position)[0]
        torch.testing.assert_close(embedded, model.embedding.weight[[3 + slot * model.vocabulary for slot in slots]])
        model.blocks = torch.nn.ModuleList()  # what is left is norm and heads, easy to repeat by hand
        hidden, logits = model.norm(model.embed(tokens))[0], model(tokens)[0]
    for position in range(model.length - 1):
        expected = model.head[slots[position + 1]] @ hidden[position]
        torch.testing.assert_close(logits[position], expected)


def test_the_stop_token_is_one_for_all_slots():
    model = random_model(Layout(2, 1))
    tokens = torch.full((1, model.length), model.vocabulary)
    with torch.no_grad():
        x = model.embed(tokens) - model.position
    torch.testing.assert_close(x, model.embedding.weight[-1].expand_as(x))


def test_explicit_attention_equals_the_fused_kernel():
    from ttlib.model import attend

    query, key, value = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).unbind()
    bias = torch.full((9, 9), -torch.inf).triu(1)
    fused = F.scaled_dot_product_attention(query, key, value, bias)
    torch.testing.assert_close(attend(query, key, value, bias, 0.0), fused)


def test_a_sequence_that_is_too_long_is_refused():
    model = random_model(Layout(2, 1))
    with pytest.raises(ValueError, match="crop"):
        model(random_tokens(model, 1, model.length + 1))


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        TrajectoryTransformer(Layout(2, 1), width=30, heads=4)


def test_a_model_survives_its_checkpoint(tmp_path):
    layout = Layout(2, 1, goal=2)
    model, tokenizer = random_model(layout), random_tokenizer(layout, discount=0.9, terminal_reward=-100.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    save_model(tmp_path / "m.safetensors", model, tokenizer, {"dataset": "toy"})
    restored, tokens, about = load_model(tmp_path / "m.safetensors")
    assert about == {"dataset": "toy"}
    assert tokens.describe() == tokenizer.describe()
    assert torch.equal(tokens.bins.edges, tokenizer.bins.edges)
    prompt = random_tokens(model, 2, model.length)
    with torch.no_grad():
        assert torch.equal(restored(prompt), model(prompt))


def test_eight_bits_are_a_few_times_as_coarse_and_half_as_large(tmp_path):
    layout = Layout(2, 1)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    prompt, files = random_tokens(model, 4, model.length), {}
    for eight_bits in (False, True):
        files[eight_bits] = tmp_path / f"{eight_bits}.safetensors"
        save_model(files[eight_bits], model, tokenizer, {}, eight_bits)
    with torch.no_grad():
        exact = model(prompt)
        errors = [(load_model(path)[0](prompt) - exact).std() for path in files.values()]
    assert 0 < errors[0] < errors[1] < 4 * errors[0] and errors[1] < 0.05 * exact.std()
    sixteen, eight = (checkpoints.load(path)[0]["model/head"] for path in files.values())
    assert eight.nbytes == sixteen.nbytes / 2
