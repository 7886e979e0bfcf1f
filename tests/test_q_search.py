"""Planning by Q, held against the slow way: whole sequences, a full forward for each token, nothing shared."""

import pytest
import torch

from tests import oracle
from tests.models import random_model, random_tokenizer, random_tokens
from ttlib.choice import expectation, likeliest, sample
from ttlib.control import nearness_of_actions
from ttlib.q_search import VALUES, plan_by_q
from ttlib.search import plan_by_return
from ttlib.tokens import Layout


class Critic:
    """Values that depend on every dimension, made from a seed."""

    scale, shift = 2.0, -1.0

    def __init__(self, layout, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.by_observation = torch.randn(layout.observation, generator=generator)
        self.by_action = torch.randn(layout.action, generator=generator)

    def q(self, observations, actions):
        return torch.tanh(observations @ self.by_observation) + (actions @ self.by_action).sin()

    def value(self, observations):
        return (observations @ self.by_observation).cos()


def slow_plan(
    model, tokenizer, critic, prompt, horizon, beam_width, value, to_go, expand, drop_mass, generator, keep, nearness
):
    """Sequences and scores, best first, of one prompt (T,)."""
    layout, discount = model.layout, tokenizer.discount
    sequences, earned, dead = prompt.repeat(beam_width, 1), torch.zeros(beam_width), [False] * beam_width

    def append(sequences, tokens):
        return torch.cat([sequences, tokens[:, None]], dim=1)

    for t in range(horizon):
        sequences, earned = sequences.repeat_interleave(expand, dim=0), earned.repeat_interleave(expand)
        seen = tokenizer.bins.decode(sequences[:, -layout.observation :], layout.observations)
        for slot in range(layout.actions.start, layout.actions.stop):
            logits = oracle.next_logits(model, sequences, keep)
            uniform = torch.rand(len(sequences), generator=generator)
            sequences = append(sequences, sample(logits, uniform, None, drop_mass, nearness.get(slot)))
        actions = tokenizer.bins.decode(sequences[:, -layout.action :], layout.actions)
        reward, returns = torch.full_like(earned, critic.shift), torch.zeros_like(earned)
        if layout.values:
            logits = oracle.next_logits(model, sequences, keep)
            reward = critic.scale * expectation(logits, tokenizer, layout.reward) + critic.shift
            sequences = append(sequences, likeliest(logits))
            logits = oracle.next_logits(model, sequences, keep)
            returns = expectation(logits, tokenizer, layout.value_slot)
        alike = [tuple(row) for row in sequences.tolist()]
        if layout.values:
            sequences = append(sequences, likeliest(logits))
        after = sequences
        for _ in range(layout.observation):
            after = append(after, likeliest(oracle.next_logits(model, after, keep)))
        if value == "q":
            scores = earned + discount**t * critic.q(seen, actions)
        elif value == "last q":
            scores = critic.q(seen, actions)
        else:
            following = tokenizer.bins.decode(after[:, -layout.observation :], layout.observations)
            scores = earned + discount**t * reward + discount ** (t + 1) * critic.value(following)
        scores = scores + to_go * discount ** (t + 1) * returns
        earned = earned + discount**t * reward
        dead, known = [parent for parent in dead for _ in range(expand)], set()
        for row, written in enumerate(alike):
            dead[row] |= written in known
            known.add(written)
        if t < horizon - 1 or value == "v":
            sequences = after
        rows = sorted(range(len(scores)), key=lambda row: (dead[row], -scores[row].item()))[:beam_width]
        best = sorted(rows, key=lambda row: (dead[row], row))
        sequences, earned, scores, dead = sequences[best], earned[best], scores[best], [dead[row] for row in best]
    alive = ~torch.tensor(dead)
    order = scores[alive].argsort(descending=True)
    return sequences[alive][order, len(prompt) :], scores[alive][order]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    ("layout", "transitions", "beam_width", "horizon", "past", "to_go"),
    [
        (Layout(2, 1), 6, 4, 2, 0, 0.0),
        (Layout(3, 2), 6, 8, 4, 2, 0.5),
        (Layout(3, 2, values=False), 6, 8, 3, 2, 0.0),
        (Layout(5, 2), 6, 8, 6, 3, 1.0),  # grows past the model's positions
    ],
)
@pytest.mark.parametrize(("seed", "tolerance"), [(0, 0.0), (1, 0.0), (1, 0.3)])
def test_the_planner_returns_the_slow_ways_tokens(
    value, layout, transitions, beam_width, horizon, past, to_go, seed, tolerance
):
    model, tokenizer = random_model(layout, seed, transitions=transitions), random_tokenizer(layout, seed=seed)
    prompt = random_tokens(model, 1, layout.length(past) + layout.observation, seed)
    critic = Critic(layout, seed)
    settings = {"value": value, "to_go": to_go, "expand": 2, "drop_mass": 0.6, "keep": 2}
    settings["nearness"] = nearness_of_actions(tokenizer, tolerance)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    plan = plan_by_q(model, tokenizer, critic, prompt, horizon, beam_width, generator=generators[0], **settings)
    tokens, scores = slow_plan(
        model, tokenizer, critic, prompt[0], horizon, beam_width, generator=generators[1], **settings
    )
    alive = torch.isfinite(plan.scores[0])
    assert torch.equal(plan.tokens[0, alive], tokens)
    torch.testing.assert_close(plan.scores[0, alive], scores, rtol=1e-4, atol=1e-4)


def test_a_critic_that_knows_nothing_leaves_the_return_planner():
    """With V = 0, r' = r and R counted in full, the scores are those of planning by return."""
    layout = Layout(3, 2)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    prompt = random_tokens(model, 2, layout.observation)

    class Nothing(Critic):
        scale, shift = 1.0, 0.0

        def value(self, observations):
            return torch.zeros(len(observations))

    settings = {"drop_mass": 0.6, "keep": 2}
    by_return = plan_by_return(model, tokenizer, prompt, 3, 8, generator=torch.Generator().manual_seed(4), **settings)
    critic = Nothing(layout)
    generator = torch.Generator().manual_seed(4)
    by_q = plan_by_q(model, tokenizer, critic, prompt, 3, 8, "v", 1.0, generator=generator, **settings)
    assert torch.equal(by_q.tokens[:, :, : by_return.tokens.shape[2]], by_return.tokens)
    torch.testing.assert_close(by_q.scores, by_return.scores, rtol=1e-4, atol=1e-4)


def test_the_best_plan_is_the_one_that_the_critic_likes():
    """A critic that wants the largest first action: the best plan has the largest of those that were sampled."""
    layout = Layout(2, 1, values=False)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    critic = Critic(layout)
    critic.q = lambda observations, actions: actions[:, 0]
    plan = plan_by_q(model, tokenizer, critic, random_tokens(model, 1, 2), 1, 8, drop_mass=None)
    assert plan.tokens[0, 0, 0] == plan.tokens[0, torch.isfinite(plan.scores[0]), 0].max()


def test_plans_do_not_depend_on_their_neighbours_in_the_batch():
    layout = Layout(3, 2)
    model, tokenizer, critic = random_model(layout), random_tokenizer(layout), Critic(layout)
    prompts = random_tokens(model, 3, layout.length(1) + layout.observation)
    for value in VALUES:
        settings = {"value": value, "top_k": 1, "drop_mass": None}  # without chance
        together = plan_by_q(model, tokenizer, critic, prompts, 3, 4, **settings)
        for episode in range(3):
            alone = plan_by_q(model, tokenizer, critic, prompts[episode : episode + 1], 3, 4, **settings)
            assert torch.equal(together.tokens[episode], alone.tokens[0])


def test_what_cannot_be_planned_is_refused():
    layout = Layout(2, 1)
    model, tokenizer, critic = random_model(layout), random_tokenizer(layout), Critic(layout)
    with pytest.raises(ValueError, match="cannot be scored by 'w'; there are q, v, last q"):
        plan_by_q(model, tokenizer, critic, random_tokens(model, 1, 2), 2, 4, value="w")
    with pytest.raises(ValueError, match="ends with an observation"):
        plan_by_q(model, tokenizer, critic, random_tokens(model, 1, 3), 2, 4)
    blind = random_model(Layout(2, 1, values=False))
    with pytest.raises(ValueError, match="rewards-to-go cannot count"):
        plan_by_q(blind, random_tokenizer(blind.layout), critic, random_tokens(blind, 1, 2), 2, 4, to_go=1.0)
