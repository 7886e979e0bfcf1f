"""The beams of a search: what each has written, and what they share.

A plan is a few hundred one-token steps, so nothing is computed twice: the prompt is
read once and shared by all beams, the children of a beam share its keys and values,
and what survives is moved once a transition. A sequence grows until it fills the
model's positions; then every beam goes on from its last `keep` transitions, read
anew from position 0, before the next token is predicted.
"""

import torch

from ttlib.model import Segment, decode_one_token, prefill


class Beams:
    """Sequences being written: `width` of them for each of E environments, E * width rows.

    Attributes:
        tokens: (rows, capacity) the first `written` are set: the context, then the plan.
        logits: (rows, V + 1) about the next token.
        shared, own: keys and values of the contexts (one group an environment) and of
            what each row has written since.
    """

    def __init__(self, model, prompt, width, steps, keep, context=None):
        self.model, self.width, self.keep, self.context = model, width, keep, context
        rows, length = len(prompt) * width, prompt.shape[1]
        self.tokens = torch.empty(rows, length + steps, dtype=torch.int64, device=prompt.device)
        self.tokens[:, :length] = prompt.repeat_interleave(width, dim=0)
        self.written = self.position = length
        logits, self.shared = prefill(model, prompt, context)
        self.logits = logits.repeat_interleave(width, dim=0)
        self.own, self.spare = (Segment.empty(model, rows, model.length) for _ in range(2))

    def append(self, tokens):
        """Write one token a row, (rows,), and read it."""
        self.tokens[:, self.written] = tokens
        self.written += 1
        # Training reads every token of a window but the last, so from the last position nothing was ever predicted.
        if self.position == self.model.length - 1:
            self._crop()
        else:
            segments = [self.shared, self.own]
            self.logits = decode_one_token(self.model, tokens, self.position, segments, self.contexts(len(tokens)))
            self.position += 1

    def reorder(self, parents):
        """Row i goes on from what row parents[i] has written; parents (rows,) stay within an environment."""
        self.tokens[:, : self.written] = self.tokens[parents, : self.written]
        filled = self.spare.filled = self.own.filled
        for old, new in ((self.own.keys, self.spare.keys), (self.own.values, self.spare.values)):
            for layer in range(self.model.layers):
                torch.index_select(old[layer, :, :, :filled], 0, parents, out=new[layer, :, :, :filled])
        self.own, self.spare = self.spare, self.own

    def adopt(self, parents, chosen, children, tokens, logits):
        """Go on from `chosen` (rows,) of a larger set of continuations of `parents` (rows,).

        Args:
            children: `Segment` of the continuations' own tokens, one group a continuation.
            tokens: (continuations, n) what they wrote.
            logits: (continuations, V + 1) what follows.
        """
        self.reorder(parents)
        start, count = self.own.filled, children.filled
        self.own.keys[:, :, :, start : start + count] = children.keys[:, chosen, :, :count]
        self.own.values[:, :, :, start : start + count] = children.values[:, chosen, :, :count]
        self.own.filled += count
        self.tokens[:, self.written : self.written + tokens.shape[1]] = tokens[chosen]
        self.written += tokens.shape[1]
        self.position += tokens.shape[1]
        self.logits = logits[chosen]
        if self.position == self.model.length:
            self._crop()

    def contexts(self, rows):
        """The embedding context of each of `rows` rows, or None."""
        return None if self.context is None else self.context.repeat_interleave(rows // len(self.context), dim=0)

    def _crop(self):
        layout = self.model.layout
        whole = (self.written - layout.goal) // layout.transition
        start = layout.goal + (whole - self.keep) * layout.transition
        prompt = torch.cat([self.tokens[:, : layout.goal], self.tokens[:, start : self.written]], dim=1)
        self.logits, self.own = prefill(self.model, prompt, self.contexts(len(prompt)), self.model.length)
        self.shared.filled = 0
        self.position = prompt.shape[1]


def repeats_a_sibling(families):
    """Which children wrote what an earlier child of their parent wrote.

    Args:
        families: (E, parents, children, n) the tokens of each child.

    Returns:
        (E, parents, children) bool.
    """
    alike = (families[:, :, :, None] == families[:, :, None]).all(dim=-1)
    return alike.tril(-1).any(dim=-1)


def survivors(scores, count):
    """(E * count,) the rows, counted over all environments, with the `count` largest scores (E, K) of each.

    In the order of rows and not of scores, so that which child stands where, and with it
    which random numbers it gets, does not hang on rounding. Those at -inf come last.
    """
    values, rows = scores.topk(count)
    order = (rows + scores.shape[1] * torch.isinf(values)).argsort()
    first = torch.arange(len(scores), device=scores.device)[:, None] * scores.shape[1]
    return (rows.gather(1, order) + first).flatten()


def check_prompt(model, prompt, keep):
    """Raise ValueError unless a search may begin with prompts (E, T) and go on from `keep` transitions."""
    layout = model.layout
    if layout.length(keep + 1) > model.length:
        raise ValueError(
            f"a beam that keeps {keep} transitions and writes one more does not fit the model's "
            f"{model.transitions}; keep at most {model.transitions - 1}."
        )
    if prompt.shape[1] < max(layout.goal, 1):
        raise ValueError(
            f"the prompt has {prompt.shape[1]} tokens; it needs the goal's {layout.goal} and at least one."
        )
    if prompt.shape[1] >= model.length:
        raise ValueError(f"a prompt of {prompt.shape[1]} tokens fills the model's {model.length} positions; crop it.")
