"""Search: beam search over tokens, and the planners built on it (section 3).

`beam_search` is Algorithm 1: it knows nothing of rewards and serves imitation and,
with goal tokens in front, goal reaching. `plan_by_return` is the same idea with the
likelihood replaced by the predicted return, one transition at a time.

`ttlib.beams` holds what is being written, `ttlib.choice` draws tokens.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ttlib.beams import Beams, check_prompt, repeats_a_sibling, survivors
from ttlib.choice import expectation, likeliest, sample_action
from ttlib.model import Segment, decode_one_token


@dataclass
class Plan:
    """What a search found, best first.

    Attributes:
        tokens: (E, B, L) int64, what follows the context.
        scores: (E, B) log-likelihood, or predicted discounted return.
    """

    tokens: torch.Tensor
    scores: torch.Tensor


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
