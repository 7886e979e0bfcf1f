"""The Trajectory Transformer: a GPT over the tokens of transitions (section 2 and appendix A).

What differs from a language model: every slot of a transition has its own range of
the vocabulary and its own output head, and reward-to-go tokens are hidden as
attention keys. They sum up the future, so an action that could attend to an earlier
R would be told how its own episode goes on.

Two ways lead through the same weights. `forward` takes whole sequences and is what
training uses. `prefill` and `decode_one_token` keep keys and values, so that
search pays for each token once; hidden keys are simply never stored.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ttlib import checkpoints
from ttlib.tokens import Layout, Tokenizer


class Block(nn.Module):
    """Causal self-attention and a two-layer network, each added to its input."""

    def __init__(self, width, heads, dropout, activation=F.gelu):
        super().__init__()
        self.heads, self.dropout, self.activation = heads, dropout, activation
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def project(self, x):
        """Queries, keys and values (B, heads, T, head width) of x (B, T, width)."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        return qkv.permute(2, 0, 3, 1, 4)

    def feed_forward(self, x):
        return self.down(self.activation(self.up(self.norm2(x))))

    def forward(self, x, bias):
        """x (B, T, width), bias (T, T): 0 where attention is allowed, -inf where not. Also returns keys, values."""
        query, key, value = self.project(x)
        mixed = attend(query, key, value, bias, self.dropout if self.training else 0.0)
        x = x + dropout(self.out(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        x = x + dropout(self.feed_forward(x), self.dropout, self.training)
        return x, key, value


def dropout(x, probability, training):
    """Zero each number of x with this probability and scale up the rest.

    On a CPU PyTorch draws a number for each element, on one thread, which cost a third of a
    training step; here eight elements share the 64 bits of one draw. The probability is then
    a multiple of 1/256: for 0.1 it is 0.1016.
    """
    if not training or probability == 0 or x.is_cuda:
        return F.dropout(x, probability, training)
    level = round(probability * 256)
    bits = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
    # 1 where bits >= level, else 0: a comparison gives bools, which convert eight times more slowly than bytes.
    kept = bits[: x.numel()].view(x.shape).clamp_(level - 1, level).sub_(level - 1)
    return x * kept.to(x.dtype).mul_(256 / (256 - level))


def attend(query, key, value, bias, probability):
    """softmax(Q K^T / sqrt(d) + bias) V. Spelled out on a CPU, where the fused kernel is slower with a mask."""
    if query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), probability)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    weights = F.softmax(scores.add_(bias), dim=-1)
    return dropout(weights, probability, probability > 0) @ value


class TrajectoryTransformer(nn.Module):
    """The model; its size is the paper's by default (appendix A).

    Args:
        layout: slots of a transition (`ttlib.tokens.Layout`).
        vocabulary: V, bins a slot. Token V is the stop token, shared by all slots.
        transitions: the longest sequence, in transitions. Positions beyond do not exist.
        layers, heads, width, dropout: the usual.

    Raises:
        ValueError: the width is not a multiple of the heads.
    """

    kind = "trajectory transformer"  # what a checkpoint of it is called

    def __init__(self, layout, vocabulary=100, transitions=10, layers=4, heads=4, width=128, dropout=0.1):
        super().__init__()
        if width % heads:
            raise ValueError(f"the width, {width}, must be a multiple of the number of heads, {heads}.")
        self.layout, self.vocabulary, self.transitions = layout, vocabulary, transitions
        self.layers, self.heads, self.width, self.dropout = layers, heads, width, dropout
        slots, length = layout.goal + layout.transition, layout.length(transitions)
        self.embedding = nn.Embedding(slots * vocabulary + 1, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Parameter(torch.empty(layout.transition, vocabulary + 1, width))
        values = torch.tensor([layout.is_value(position) for position in range(length)])
        forbidden = torch.ones(length, length, dtype=torch.bool).triu(1) | values
        self.register_buffer("bias", torch.zeros(length, length).masked_fill(forbidden, -torch.inf), persistent=False)
        self.apply(self._initialise)
        nn.init.normal_(self.head, std=0.02)

    @staticmethod
    def _initialise(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    @property
    def length(self):
        """The longest sequence, in tokens."""
        return len(self.position)

    def size(self):
        """What `load_model` needs to build the same model, as plain values."""
        names = ("vocabulary", "transitions", "layers", "heads", "width", "dropout")
        return {name: getattr(self, name) for name in names}

    def embed(self, tokens, start=0, context=None):
        """Embeddings (B, T, width) of tokens (B, T) at the positions start, start + 1, ..."""
        stop = start + tokens.shape[1]
        if stop > self.length:
            raise ValueError(f"a sequence of {stop} tokens is longer than the model's {self.length}; crop it.")
        positions = torch.arange(start, stop, device=tokens.device)
        goal, transition = self.layout.goal, self.layout.transition
        slots = torch.where(positions < goal, transition + positions, (positions - goal) % transition)
        rows = torch.where(
            tokens == self.vocabulary, self.embedding.num_embeddings - 1, tokens + slots * self.vocabulary
        )
        x = self.embedding(rows) + self.position[start:stop]
        return x if context is None else x + context[:, None]

    def slot_after(self, position):
        """The slot that the output at `position` predicts."""
        return (position + 1 - self.layout.goal) % self.layout.transition

    def forward(self, tokens, context=None):
        """Logits for the token after each position.

        Args:
            tokens: (B, T) int64, T at most `length`.
            context: (B, width), added to every token's embedding (the map of appendix F), or None.

        Returns:
            (B, T, V + 1); row p is about token p + 1, by the head of that token's slot.
        """
        length = tokens.shape[1]
        x = dropout(self.embed(tokens, context=context), self.dropout, self.training)
        for block in self.blocks:
            x, _, _ = block(x, self.bias[:length, :length])
        # One matrix product a slot: pad both ends until slots line up in whole transitions.
        before, transition = self.slot_after(0), self.layout.transition
        x = F.pad(self.norm(x), (0, 0, before, -(before + length) % transition))
        logits = torch.einsum("btdc,dvc->btdv", x.unflatten(1, (-1, transition)), self.head)
        return logits.flatten(1, 2)[:, before : before + length]


@dataclass
class Segment:
    """Keys and values of a stretch of tokens, for groups of neighbouring rows that have it in common.

    Attributes:
        keys, values: (layers, groups, heads, capacity, head width).
        filled: how many tokens of the capacity are in use.
    """

    keys: torch.Tensor
    values: torch.Tensor
    filled: int = 0

    @classmethod
    def empty(cls, model, groups, capacity):
        shape = (model.layers, groups, model.heads, capacity, model.width // model.heads)
        return cls(torch.empty(shape, device=model.head.device), torch.empty(shape, device=model.head.device))

    def append(self, layer, keys, values):
        """Store one token's (groups, heads, head width); the caller counts it once all layers have it."""
        self.keys[layer, :, :, self.filled] = keys
        self.values[layer, :, :, self.filled] = values


@torch.inference_mode()
def prefill(model, tokens, context=None, capacity=None):
    """Read a whole prompt at once.

    Args:
        tokens: (rows, T) int64.
        context: (rows, width) or None, as in `TrajectoryTransformer.forward`.
        capacity: tokens that the segment has room for; just the prompt's when left out.

    Returns:
        logits (rows, V + 1) for the token that follows, and the `Segment` of the prompt
        with one group a row and without the reward-to-go tokens, which nothing may attend to.
    """
    length = tokens.shape[1]
    shown = [position for position in range(length) if not model.layout.is_value(position)]
    segment = Segment.empty(model, len(tokens), capacity or len(shown))
    segment.filled = len(shown)
    x = model.embed(tokens, context=context)
    for layer, block in enumerate(model.blocks):
        x, key, value = block(x, model.bias[:length, :length])
        segment.keys[layer, :, :, : len(shown)] = key[:, :, shown]
        segment.values[layer, :, :, : len(shown)] = value[:, :, shown]
    logits = F.linear(model.norm(x[:, -1]), model.head[model.slot_after(length - 1)])
    return logits, segment


@torch.inference_mode()
def decode_one_token(model, tokens, position, segments, context=None):
    """Read one more token a row.

    Args:
        tokens: (rows,) int64.
        position: the position of these tokens in their sequences.
        segments: the tokens before, oldest first. The last one has a group for each row and
            takes the new keys and values; the others are only read.
        context: (rows, width) or None.

    Returns:
        logits (rows, V + 1) for the token that follows.
    """
    hidden = model.layout.is_value(position)
    x = model.embed(tokens[:, None], position, context)
    for layer, block in enumerate(model.blocks):
        query, key, value = block.project(x)
        if not hidden:
            segments[-1].append(layer, key[:, :, 0], value[:, :, 0])
        mixed = _attend_segments(query[:, :, 0], layer, segments, 0 if hidden else 1)
        x = x + block.out(mixed)[:, None]
        x = x + block.feed_forward(x)
    segments[-1].filled += not hidden
    return F.linear(model.norm(x[:, 0]), model.head[model.slot_after(position)])


def _attend_segments(query, layer, segments, fresh):
    """Attention of query (rows, heads, d) to all segments (`fresh` more tokens in the last): (rows, heads * d)."""
    rows, heads, width = query.shape
    spans = [(s, s.filled + (fresh if s is segments[-1] else 0)) for s in segments]
    spans = [(s, filled) for s, filled in spans if filled]
    scores = []
    for segment, filled in spans:
        groups = segment.keys.shape[1]
        shared = query.view(groups, rows // groups, heads, width).transpose(1, 2)
        score = shared @ segment.keys[layer, :, :, :filled].transpose(-2, -1)
        scores.append(score.transpose(1, 2).reshape(rows, heads, filled))
    weights = F.softmax(torch.cat(scores, dim=-1) * width**-0.5, dim=-1)
    mixed = 0
    for (segment, filled), weight in zip(spans, weights.split([filled for _, filled in spans], dim=-1), strict=True):
        groups = segment.keys.shape[1]
        shared = weight.reshape(groups, rows // groups, heads, filled).transpose(1, 2)
        mixed = mixed + (shared @ segment.values[layer, :, :, :filled]).transpose(1, 2).reshape(rows, heads * width)
    return mixed


def save_model(path, model, tokenizer, about, eight_bits=False):
    """Write model and tokenizer to one checkpoint, weights in bfloat16.

    Args:
        about: provenance, plain values; `load_model` gives it back.
        eight_bits: keep each row of a matrix as whole numbers up to 127 and a scale. That is half as large, and about
            three times as coarse: it costs the Humanoid's model 0.0003 nats a token.
    """
    tensors = {f"model/{name}": tensor.bfloat16() for name, tensor in model.state_dict().items()}
    for name, weight in model.state_dict().items() if eight_bits else ():
        if weight.ndim > 1:
            scale = (weight.float().abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127).bfloat16()
            whole = (weight.float() / scale.float()).round().clamp(-127, 127)
            tensors[f"model/{name}"], tensors[f"scale/{name}"] = whole.to(torch.int8), scale
    tensors["edges"] = tokenizer.bins.edges
    description = {"kind": model.kind, "model": model.size(), "tokenizer": tokenizer.describe()}
    checkpoints.save(path, tensors, description | {"about": about})


def load_model(path, device="cpu", build=TrajectoryTransformer):
    """Read what `save_model` wrote of a model of the class `build`.

    Returns:
        model (float32, evaluation mode), tokenizer, about.

    Raises:
        FileNotFoundError, ValueError: no such file; damaged, or another kind of model.
    """
    tensors, description = checkpoints.load(path)
    if description.get("kind") != build.kind:
        raise ValueError(f"{path} holds no {build.kind}; it says that it holds a {description.get('kind')}.")
    tokenizer = Tokenizer.restore(tensors["edges"], description["tokenizer"])
    model = build(Layout(**description["tokenizer"]["layout"]), **description["model"])
    scales = {name: scale.float() for name, scale in checkpoints.part(tensors, "scale/").items()}
    weights = {name: weight.float() for name, weight in checkpoints.part(tensors, "model/").items()}
    model.load_state_dict({name: weight * scales.get(name, 1.0) for name, weight in weights.items()})
    tokenizer.env_id = tokenizer.env_id or description["about"].get("env_id", "")
    tokenizer.bins = tokenizer.bins.to(device)
    return model.to(device).eval(), tokenizer, description["about"]
