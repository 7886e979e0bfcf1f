"""Search: beam search over tokens, and the planners built on it (section 3).

`beam_search` is Algorithm 1: it knows nothing of rewards and serves imitation and,
with goal tokens in front, goal reaching. `plan_by_return` is the same idea with the
likelihood replaced by the predicted return, one transition at a time.

A plan is a few hundred one-token steps, so nothing is computed twice: the prompt is
read once and shared by all beams, the children of a beam share its keys and values,
and what survives is moved once a transition. A sequence grows until it fills the
model's positions; then every beam goes on from its last `keep` transitions, read
anew from position 0, before the next token is predicted. Sampling stays on the
device and shapes depend on arguments only.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ttlib.model import Segment, decode_one_token, prefill


@dataclass
class Plan:
    """What a search found, best first.

    Attributes:
        tokens: (E, B, L) int64, what follows the context.
        scores: (E, B) log-likelihood, or predicted discounted return.
    """

    tokens: torch.Tensor
    scores: torch.Tensor


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


@torch.inference_mode()
def beam_search(model, prompt, steps, beam_width, keep=4, context=None, nearness=None, actions_only=False):
    """Algorithm 1: the `beam_width` likeliest continuations that keeping so many at each token finds.

    The stop token is never proposed: it cannot be enacted.

    Args:
        prompt: (E, T) int64, one sequence for each environment, goal first if the layout has one.
        steps: tokens to write.
        keep: whole transitions that a beam goes on from when the model's positions are used up.
        context: (E, width) or None, see `TrajectoryTransformer.forward`.
        nearness: {slot: (V, V)}, see `Bins.nearness`. In these slots token j counts as sum_i P(i) nearness_ij, the
            likelihood of a value near its own. Without it, in Algorithm 1, as P(j): where bins are narrower than
            the noise of the data, which of them is the likeliest says little.
        actions_only: let the likelihood of actions alone decide, each beam's observations being the likeliest ones
            after its actions, as in `plan_by_return`. Otherwise, as in Algorithm 1, of two actions that are as
            likely the one goes on after which the world is the more predictable.

    Returns:
        `Plan` with tokens (E, beam_width, steps) and their log-likelihood; where there are
        fewer sequences than beams, the rest scores -inf.
    """
    check_prompt(model, prompt, keep)
    beams = Beams(model, prompt, beam_width, steps, keep, context)
    episodes, vocabulary, layout = len(prompt), model.vocabulary, model.layout
    scores = torch.full((episodes, beam_width), -torch.inf, device=prompt.device)
    scores[:, 0] = 0.0  # before the first token there is one hypothesis, not beam_width copies of it
    first_row = torch.arange(episodes, device=prompt.device)[:, None] * beam_width
    for step in range(steps):
        slot = model.slot_after(beams.written - 1)
        if actions_only and not layout.actions.start <= slot < layout.actions.stop:
            tokens = likeliest(beams.logits)
        else:
            likelihood = F.log_softmax(beams.logits, dim=-1)[:, :vocabulary]
            if nearness and slot in nearness:
                likelihood = (likelihood.exp() @ nearness[slot]).log()
            likelihood = likelihood.view(episodes, beam_width, vocabulary)
            scores, chosen = (scores[..., None] + likelihood).flatten(1).topk(beam_width)
            tokens = (chosen % vocabulary).flatten()
            beams.reorder((first_row + chosen // vocabulary).flatten())
        if step < steps - 1:
            beams.append(tokens)
    beams.tokens[:, beams.written] = tokens
    return Plan(beams.tokens[:, prompt.shape[1] :].view(episodes, beam_width, steps), scores)


@torch.inference_mode()
def plan_by_return(
    model,
    tokenizer,
    prompt,
    horizon,
    beam_width,
    expand=2,
    top_k=None,
    drop_mass=0.6,
    keep=4,
    generator=None,
    context=None,
    nearness=None,
):
    """Beam search by predicted return (section 3, offline reinforcement learning).

    For each transition of the plan every beam gets `expand` children with sampled actions.
    Reward and reward-to-go are read as expectations over their bins, and the `beam_width`
    children with the largest sum_{i<=t} discount^i r_i + discount^(t+1) R_t go on. Their next
    observation is decoded greedily; observations of the others are never computed. A beam is a
    set, as in Algorithm 1: of children that are alike only one is kept.

    Args:
        prompt: (E, T) int64, past transitions and the current observation.
        horizon: transitions to plan.
        top_k, drop_mass: which action tokens may be sampled, see `sample`.
        nearness: {slot: (V, V)}, of action slots, see `sample`.
        keep: whole transitions that a beam goes on from when the model's positions are used up.
        generator: `torch.Generator` on the prompt's device.
        context: (E, width) or None, see `TrajectoryTransformer.forward`.

    Returns:
        `Plan` with tokens (E, beam_width, L), from the first action to the last R, and predicted
        returns; where there are fewer different plans than beams, the rest scores -inf.

    Raises:
        ValueError: the layout has no values, or the prompt does not end with an observation.
    """
    layout = model.layout
    check_prompt(model, prompt, keep)
    if not layout.values:
        raise ValueError("planning by return needs reward tokens; this model was trained without them.")
    if (prompt.shape[1] - layout.goal) % layout.transition != layout.observation:
        raise ValueError("a prompt for planning by return ends with an observation.")
    episodes, continuations = len(prompt), len(prompt) * beam_width * expand
    steps = horizon * layout.transition - layout.observation
    beams = Beams(model, prompt, beam_width, steps, keep, context)
    earned = torch.zeros(len(prompt) * beam_width, device=prompt.device)
    dead = torch.zeros(len(prompt) * beam_width, dtype=torch.bool, device=prompt.device)
    discount = tokenizer.discount

    for t in range(horizon):
        children = Segment.empty(model, continuations, layout.action + 1)
        segments, contexts = [beams.shared, beams.own, children], beams.contexts(continuations)
        logits, written = beams.logits.repeat_interleave(expand, dim=0), []
        for step in range(layout.action):
            slot = layout.actions.start + step
            written.append(sample_action(logits, slot, top_k, drop_mass, nearness, generator))
            logits = decode_one_token(model, written[-1], beams.position + step, segments, contexts)
        reward = expectation(logits, tokenizer, layout.reward)
        written.append(likeliest(logits))
        logits = decode_one_token(model, written[-1], beams.position + layout.action, segments, contexts)
        value = expectation(logits, tokenizer, layout.value_slot)

        earned = earned.repeat_interleave(expand) + discount**t * reward
        written = torch.stack(written, dim=1)
        # Before the first action all beams are one, and so all children siblings.
        families = written.view(episodes, 1 if t == 0 else beam_width, -1, written.shape[1])
        dead = dead.repeat_interleave(expand) | repeats_a_sibling(families).flatten()
        scores = (earned + discount ** (t + 1) * value).masked_fill(dead, -torch.inf)
        chosen = survivors(scores.view(episodes, -1), beam_width)
        earned, scores, dead = earned[chosen], scores[chosen], dead[chosen]
        beams.adopt(chosen // expand, chosen, children, written, logits)
        if t == horizon - 1:
            break
        for _ in range(layout.observation + 1):  # R, then the next observation
            beams.append(likeliest(beams.logits))
    beams.tokens[:, beams.written] = likeliest(beams.logits)

    order = scores.view(episodes, beam_width).argsort(descending=True)
    tokens = beams.tokens[:, prompt.shape[1] :].view(episodes, beam_width, -1)
    tokens = tokens.gather(1, order[..., None].expand_as(tokens))
    return Plan(tokens, scores.view(episodes, beam_width).gather(1, order))


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


def sample(logits, uniform, top_k=None, drop_mass=None, nearness=None):
    """Sample a bin a row, never the stop token.

    Args:
        logits: (rows, V + 1).
        uniform: (rows,) random numbers in [0, 1).
        top_k: only the k likeliest bins, or None for all.
        drop_mass: leave out the unlikeliest bins that together have less than this probability, or None.
        nearness: (V, V), see `Bins.nearness`. Which bins are the unlikeliest is then a matter of the probability near
            them, sum_i P(i) nearness_ij; those that stay are drawn by P(j) all the same. Without it, by P(j): of bins
            of unequal width the narrow ones, which hold little each, go first, and with quantiles that is the middle.

    Returns:
        (rows,) int64.
    """
    probabilities = F.softmax(logits[:, :-1], dim=-1)
    rank = probabilities if nearness is None else probabilities @ nearness
    if top_k is not None:
        least = rank.topk(min(top_k, rank.shape[1])).values[:, -1:]
        probabilities = probabilities * (rank >= least)
    if drop_mass is not None:
        bins = rank.argsort(dim=-1)
        rising = probabilities.gather(1, bins)
        dropped = rising.cumsum(dim=-1) < drop_mass * rising.sum(dim=-1, keepdim=True)
        dropped[:, -1] = False
        probabilities = probabilities.scatter(1, bins, rising.masked_fill(dropped, 0.0))
    # A cumulative sum and a comparison: several times faster than torch.multinomial at this size.
    cumulative = probabilities.cumsum(dim=-1)
    return (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=-1).clamp(max=logits.shape[1] - 2)


def sample_action(logits, slot, top_k, drop_mass, nearness, generator):
    """(rows,) tokens for an action slot, drawn from logits (rows, V + 1) by `sample`; nearness is {slot: (V, V)}."""
    uniform = torch.rand(len(logits), generator=generator, device=logits.device)
    return sample(logits, uniform, top_k, drop_mass, (nearness or {}).get(slot))


def likeliest(logits):
    """(rows,) the most probable bin of logits (rows, V + 1), never the stop token."""
    return logits[:, :-1].argmax(dim=-1)


def expectation(logits, tokenizer, slot):
    """(rows,) expected value of a slot under logits (rows, V + 1), given that the episode goes on."""
    return tokenizer.bins.expectation(F.softmax(logits[:, :-1], dim=-1), slot)


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
