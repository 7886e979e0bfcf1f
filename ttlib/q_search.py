"""Planning with a Q-function: the return planner, with its value estimate replaced (section 4.3 of the paper).

Where rewards are sparse and no recording goes all the way, the rewards-to-go of the data are nearly all zero and
rank nothing. A Q-function that was learned by dynamic programming knows better: it carries the reward of one
recording over to others that cross its way. So the model proposes what the data would do, and Q says which of it
is worth going on with. The paper's own code for this was never published; what is known is that Q is the lesser of
IQL's two critics, evaluated on the values that tokens stand for.
"""

import torch

from ttlib.beams import Beams, check_prompt, repeats_a_sibling, survivors
from ttlib.choice import expectation, likeliest, sample_action
from ttlib.model import Segment, decode_one_token
from ttlib.search import Plan

VALUES = ("q", "v", "last q")


@torch.inference_mode()
def plan_by_q(
    model,
    tokenizer,
    critic,
    prompt,
    horizon,
    beam_width,
    value="q",
    to_go=0.0,
    expand=2,
    top_k=None,
    drop_mass=0.6,
    keep=4,
    generator=None,
    context=None,
    nearness=None,
):
    """Beam search by predicted rewards and a critic's values.

    As in `search.plan_by_return` every beam gets `expand` children with sampled actions, and the `beam_width`
    with the best scores go on. With r' = scale r + shift, the rewards that the critic was trained on, and r the
    expectation over its bins, the score after transition t is

        "q"       sum_{i<t} discount^i r'_i + discount^t Q(s_t, a_t)        Q holds r'_t already
        "v"       sum_{i<=t} discount^i r'_i + discount^(t+1) V(s_{t+1})
        "last q"  Q(s_t, a_t)

    and `to_go` x discount^(t+1) R_t more, R being the model's own reward-to-go. s_t and a_t are the middles of
    their tokens' bins. For "v" the next observations of all children are written before the choice, so it takes
    longer.

    Args:
        critic: has `q(observations (rows, N), actions (rows, M))` and `value(observations)`, both (rows,), and
            numbers `scale` and `shift`; such as `ttlib.baselines.iql.IQL`. On the prompt's device.
        prompt: (E, T) int64, past transitions and the current observation.
        value: which score.
        to_go: weight of the model's reward-to-go; 0 leaves it out.
        others: see `search.plan_by_return`. A model without reward tokens counts rewards as 0.

    Returns:
        `Plan`; its tokens go from the first action to the last R (or, without rewards, to the last action), and for
        "v" to the last observation. Where there are fewer different plans than beams, the rest scores -inf.

    Raises:
        ValueError: the prompt does not end with an observation, there is no such value, or R is to count and the
            model has none.
    """
    layout = model.layout
    check_prompt(model, prompt, keep)
    if value not in VALUES:
        raise ValueError(f"a plan cannot be scored by {value!r}; there are {', '.join(VALUES)}.")
    if to_go and not layout.values:
        raise ValueError("rewards-to-go cannot count in a plan of a model that was trained without them.")
    if (prompt.shape[1] - layout.goal) % layout.transition != layout.observation:
        raise ValueError("a prompt for planning by Q ends with an observation.")
    judge = Judge(tokenizer, critic, value, to_go)
    choose = {"top_k": top_k, "drop_mass": drop_mass, "nearness": nearness, "generator": generator}
    plan = _observe_all if value == "v" else _observe_chosen
    tokens, scores = plan(model, prompt, horizon, beam_width, judge, keep, context, expand, **choose)
    scores = scores.view(len(prompt), beam_width)
    order = scores.argsort(descending=True)
    tokens = tokens[:, prompt.shape[1] :].view(len(prompt), beam_width, -1)
    return Plan(tokens.gather(1, order[..., None].expand_as(tokens)), scores.gather(1, order))


class Judge:
    """Scores transitions as `plan_by_q` says; see there for the arguments."""

    def __init__(self, tokenizer, critic, value, to_go):
        self.tokenizer, self.critic, self.value, self.to_go = tokenizer, critic, value, to_go

    def rewards(self, logits):
        """(rows,) expected reward under logits (rows, V + 1), as the critic counts rewards."""
        reward = expectation(logits, self.tokenizer, self.tokenizer.layout.reward)
        return self.critic.scale * reward + self.critic.shift

    def returns(self, logits):
        """(rows,) expected reward-to-go under logits (rows, V + 1)."""
        return expectation(logits, self.tokenizer, self.tokenizer.layout.value_slot)

    def scores(self, t, before, reward, returns, seen, actions, following=None):
        """(rows,) the score after transition t.

        Args:
            before, reward, returns: (rows,) discounted rewards of earlier transitions, reward and R of this one.
            seen, actions, following: (rows, N), (rows, M), (rows, N) tokens of s_t, a_t and s_{t+1}.
        """
        layout, bins, discount = self.tokenizer.layout, self.tokenizer.bins, self.tokenizer.discount
        if self.value == "v":
            value = self.critic.value(bins.decode(following, layout.observations))
            score = before + discount**t * reward + discount ** (t + 1) * value
        else:
            value = self.critic.q(bins.decode(seen, layout.observations), bins.decode(actions, layout.actions))
            score = value if self.value == "last q" else before + discount**t * value
        return score + self.to_go * discount ** (t + 1) * returns


def _observe_chosen(model, prompt, horizon, beam_width, judge, keep, context, expand, **choose):
    """Tokens (rows, L), context included, and scores (rows,): what is chosen is chosen by its actions.

    As in `search.plan_by_return`, next observations are written for the beams that survive only.
    """
    layout, discount, device = model.layout, judge.tokenizer.discount, prompt.device
    episodes, continuations = len(prompt), len(prompt) * beam_width * expand
    beams = Beams(model, prompt, beam_width, horizon * layout.transition - layout.observation, keep, context)
    earned = torch.zeros(episodes * beam_width, device=device)
    dead = torch.zeros(episodes * beam_width, dtype=torch.bool, device=device)
    for t in range(horizon):
        children = Segment.empty(model, continuations, layout.action + layout.values)
        segments, contexts = [beams.shared, beams.own, children], beams.contexts(continuations)
        logits, written = beams.logits.repeat_interleave(expand, dim=0), []
        for step in range(layout.action):
            written.append(sample_action(logits, layout.actions.start + step, **choose))
            logits = decode_one_token(model, written[-1], beams.position + step, segments, contexts)
        actions, reward, returns = torch.stack(written, dim=1), judge.critic.shift, 0.0
        if layout.values:
            reward = judge.rewards(logits)
            written.append(likeliest(logits))
            logits = decode_one_token(model, written[-1], beams.position + layout.action, segments, contexts)
            returns = judge.returns(logits)
        written = torch.stack(written, dim=1)
        seen = beams.tokens[:, beams.written - layout.observation : beams.written].repeat_interleave(expand, dim=0)
        before = earned.repeat_interleave(expand)
        scores = judge.scores(t, before, reward, returns, seen, actions)
        earned = before + discount**t * reward
        # Before the first action all beams are one, and so all children siblings.
        families = written.view(episodes, 1 if t == 0 else beam_width, -1, written.shape[1])
        dead = dead.repeat_interleave(expand) | repeats_a_sibling(families).flatten()
        scores = scores.masked_fill(dead, -torch.inf)
        chosen = survivors(scores.view(episodes, -1), beam_width)
        earned, scores, dead = earned[chosen], scores[chosen], dead[chosen]
        beams.adopt(chosen // expand, chosen, children, written, logits)
        if t < horizon - 1:
            for _ in range(layout.values + layout.observation):  # R, then the next observation
                beams.append(likeliest(beams.logits))
    if layout.values:
        beams.tokens[:, beams.written] = likeliest(beams.logits)
    return beams.tokens, scores


def _observe_all(model, prompt, horizon, beam_width, judge, keep, context, expand, **choose):
    """The same, but all children write their next observation before the choice, each as a beam of its own."""
    layout, discount, device = model.layout, judge.tokenizer.discount, prompt.device
    episodes, rows = len(prompt), len(prompt) * beam_width * expand
    beams = Beams(model, prompt, beam_width * expand, horizon * layout.transition, keep, context)
    earned, dead = torch.zeros(rows, device=device), torch.zeros(rows, dtype=torch.bool, device=device)
    for t in range(horizon):
        start, reward, returns = beams.written, judge.critic.shift, 0.0
        for slot in range(layout.actions.start, layout.actions.stop):
            beams.append(sample_action(beams.logits, slot, **choose))
        if layout.values:
            reward = judge.rewards(beams.logits)
            beams.append(likeliest(beams.logits))
            returns = judge.returns(beams.logits)
            beams.append(likeliest(beams.logits))
        for _ in range(layout.observation):
            beams.append(likeliest(beams.logits))
        seen, actions, _, following = beams.tokens[:, start - layout.observation : beams.written].split(
            [layout.observation, layout.action, 2 * layout.values, layout.observation], dim=1
        )
        scores = judge.scores(t, earned, reward, returns, seen, actions, following)
        families = beams.tokens[:, start : start + layout.action + layout.values]
        families = families.view(episodes, 1 if t == 0 else beam_width, -1, families.shape[1])
        dead = dead | repeats_a_sibling(families).flatten()
        scores = scores.masked_fill(dead, -torch.inf)
        chosen = survivors(scores.view(episodes, -1), beam_width)
        if t < horizon - 1:
            parents = chosen.repeat_interleave(expand)
            earned, dead = (earned + discount**t * reward)[parents], dead[parents]
            beams.reorder(parents)
            beams.logits = beams.logits[parents]
    return beams.tokens[chosen], scores[chosen]
