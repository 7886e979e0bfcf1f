from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tests import oracle
from tests.models import random_model, random_tokenizer, random_tokens
from ttlib.beams import Beams
from ttlib.choice import likeliest, sample
from ttlib.control import nearness_of_actions
from ttlib.discretize import Bins
from ttlib.q_search import plan_by_q
from ttlib.search import beam_search, plan_by_return
from ttlib.tokens import Layout


@pytest.mark.parametrize(
    ("layout", "prompt", "steps"),
    [
        (Layout(2, 1, values=False), 2, 7),
        (Layout(1, 2, values=False, goal=2), 4, 5),
        (Layout(1, 1), 5, 9),
        (Layout(2, 1, values=False), 11, 13),  # past the model's positions: cropped on the way
    ],
)
def test_beam_search_is_algorithm_1(layout, prompt, steps):
    model = random_model(layout, vocabulary=6, transitions=5)
    prompts = random_tokens(model, 2, prompt)
    plan = beam_search(model, prompts, steps, beam_width=5, keep=2)
    for episode in range(2):
        expected = oracle.beam_search(model, prompts[episode], steps, 5, keep=2)
        assert plan.tokens[episode].tolist() == [list(written) for written, _ in expected]
        torch.testing.assert_close(plan.scores[episode], torch.tensor([score for _, score in expected]))


@pytest.mark.parametrize("layout", [Layout(3, 1), Layout(2, 1, values=False, goal=2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_beams_that_outgrow_the_model_see_what_a_full_forward_sees(layout, seed):
    model = random_model(layout, seed, transitions=4)
    prompt = random_tokens(model, 2, layout.length(1) + 1, seed)
    written = random_tokens(model, 6, 3 * model.length, seed + 1)
    beams = Beams(model, prompt, 3, written.shape[1], keep=2)
    sequences = prompt.repeat_interleave(3, dim=0)
    for step, tokens in enumerate(written.T):
        beams.append(tokens)
        sequences = torch.cat([sequences, tokens[:, None]], dim=1)
        assert (beams.logits - oracle.next_logits(model, sequences, keep=2)).abs().max() <= 1e-4, step


@pytest.mark.parametrize("values", [False, True])
def test_the_last_position_from_which_training_predicts_nothing_changes_no_search(values):
    layout, found = Layout(2, 2, values=values), []
    tokenizer, critic = (
        random_tokenizer(layout),
        SimpleNamespace(scale=1.0, shift=0.0, q=lambda seen, done: done.sum(1)),
    )
    for seed in range(2):
        model = random_model(layout, transitions=3)
        with torch.no_grad():
            model.position[-1] = torch.randn(model.width, generator=torch.Generator().manual_seed(seed))
        prompt, chance = random_tokens(model, 2, 2), torch.Generator().manual_seed(0)
        plans = [beam_search(model, prompt, 50, 3, keep=2)]
        plans.append(plan_by_q(model, tokenizer, critic, prompt, 8, 3, keep=2, generator=chance))
        if values:
            plans.append(plan_by_return(model, tokenizer, prompt, 8, 3, keep=2, generator=chance))
        found.append(plans)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.tokens, other.tokens) and torch.equal(one.scores, other.scores)


@pytest.mark.parametrize("actions_only", [False, True])
@pytest.mark.parametrize("layout", [Layout(1, 2, values=False), Layout(2, 1, values=False, goal=2)])
def test_near_tokens_count_where_a_nearness_is_given(layout, actions_only):
    model = random_model(layout, vocabulary=6, transitions=5)
    prompts = random_tokens(model, 2, layout.goal + layout.observation)
    slots = range(layout.observation, layout.transition)
    nearness = {slot: torch.rand(6, 6, generator=torch.Generator().manual_seed(slot)) for slot in slots}
    settings = {"keep": 2, "nearness": nearness, "actions_only": actions_only}
    plan = beam_search(model, prompts, 8, beam_width=5, **settings)
    for episode in range(2):
        expected = oracle.beam_search(model, prompts[episode], 8, 5, **settings)
        assert plan.tokens[episode].tolist() == [list(written) for written, _ in expected]
        torch.testing.assert_close(plan.scores[episode], torch.tensor([score for _, score in expected]))


def test_a_beam_as_wide_as_all_sequences_finds_the_likeliest():
    model = random_model(Layout(1, 1, values=False), vocabulary=4)
    prompt = random_tokens(model, 1, 1)
    plan = beam_search(model, prompt, 3, beam_width=64)
    sequences = torch.cartesian_prod(*[torch.arange(4)] * 3)
    with torch.no_grad():
        logits = model(torch.cat([prompt.expand(64, 1), sequences], dim=1))[:, :3]
    scores = F.log_softmax(logits, dim=-1).gather(2, sequences[..., None]).sum(dim=(1, 2))
    assert torch.equal(plan.tokens[0], sequences[scores.argsort(descending=True)])


def test_fewer_sequences_than_beams_leave_the_rest_at_minus_infinity():
    model = random_model(Layout(1, 1, values=False), vocabulary=3)
    plan = beam_search(model, random_tokens(model, 1, 1), 2, beam_width=20)
    assert torch.isfinite(plan.scores[0]).sum() == 9
    assert len({tuple(row) for row in plan.tokens[0, :9].tolist()}) == 9


@pytest.mark.parametrize(
    ("layout", "transitions", "beam_width", "horizon", "past"),
    [
        (Layout(2, 1), 6, 4, 2, 0),
        (Layout(3, 2), 6, 8, 4, 2),
        (Layout(11, 3), 8, 16, 6, 4),  # grows past the model's positions
        (Layout(2, 1), 4, 8, 9, 2),  # and more than once
    ],
)
@pytest.mark.parametrize("tolerance", [0.0, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_planner_returns_the_oracles_tokens(layout, transitions, beam_width, horizon, past, seed, tolerance):
    model, tokenizer = random_model(layout, seed, transitions=transitions), random_tokenizer(layout, seed=seed)
    prompt = random_tokens(model, 1, layout.length(past) + layout.observation, seed)
    settings = {"expand": 2, "drop_mass": 0.6, "keep": 2, "nearness": nearness_of_actions(tokenizer, tolerance)}
    plan = plan_by_return(
        model, tokenizer, prompt, horizon, beam_width, generator=torch.Generator().manual_seed(seed), **settings
    )
    tokens, scores = oracle.plan_by_return(
        model, tokenizer, prompt[0], horizon, beam_width, generator=torch.Generator().manual_seed(seed), **settings
    )
    alive = torch.isfinite(plan.scores[0])
    assert torch.equal(plan.tokens[0, alive], tokens)
    torch.testing.assert_close(plan.scores[0, alive], scores, rtol=1e-4, atol=1e-4)


def test_no_two_plans_are_alike():
    layout = Layout(2, 1)
    model, tokenizer = random_model(layout, vocabulary=4), random_tokenizer(layout, vocabulary=4)
    plan = plan_by_return(model, tokenizer, random_tokens(model, 1, 2), 3, 16, drop_mass=None)
    alive = [tuple(row) for row in plan.tokens[0, torch.isfinite(plan.scores[0])].tolist()]
    assert len(set(alive)) == len(alive) > 4


def test_a_plan_does_not_depend_on_its_neighbours_in_the_batch():
    layout = Layout(3, 2)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    prompts = random_tokens(model, 3, layout.length(1) + layout.observation)
    # top_k=1 makes actions deterministic, so that rows need not see the same random numbers.
    together = plan_by_return(model, tokenizer, prompts, 3, 4, top_k=1, drop_mass=None)
    for episode in range(3):
        alone = plan_by_return(model, tokenizer, prompts[episode : episode + 1], 3, 4, top_k=1, drop_mass=None)
        assert torch.equal(together.tokens[episode], alone.tokens[0])


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    layout = Layout(3, 2)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    prompt = random_tokens(model, 1, layout.observation)

    def plan(seed):
        return plan_by_return(model, tokenizer, prompt, 3, 8, generator=torch.Generator().manual_seed(seed)).tokens

    assert torch.equal(plan(0), plan(0))
    assert not torch.equal(plan(0), plan(1))


def test_sampling_follows_the_probabilities():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    logits = torch.cat([probabilities.log(), torch.tensor([9.0])])  # the stop token, however likely, is not drawn
    uniform = torch.linspace(0, 1, 10_001)[:-1]
    counts = torch.bincount(sample(logits.expand(10_000, 5), uniform), minlength=4) / 10_000
    torch.testing.assert_close(counts, probabilities, atol=1e-3, rtol=0)


def test_dropping_mass_leaves_the_likeliest_bins():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4, 1e-9]]).log().expand(1000, 5)
    uniform = torch.linspace(0, 1, 1001)[:-1]
    assert set(sample(logits, uniform, drop_mass=0.25).tolist()) == {1, 2, 3}  # 0.1 < 0.25, 0.1 + 0.2 is not
    assert set(sample(logits, uniform, drop_mass=1.0).tolist()) == {3}
    assert set(sample(logits, uniform, top_k=2).tolist()) == {2, 3}


def test_of_unequal_bins_those_go_that_have_the_least_near_them():
    """A bell over bins that are wide outside: by their own probability two of those are the likeliest."""
    edges = torch.tensor([[-3.0, -1.2, -0.4, -0.2, 0.0, 0.2, 0.4, 1.2, 3.0]])
    cumulative = torch.distributions.Normal(0.0, 1.0).cdf(edges[0])
    logits = torch.cat([cumulative.diff().log(), torch.tensor([9.0])]).expand(10_000, 9)
    uniform = torch.linspace(0, 1, 10_001)[:-1]
    by_themselves = sample(logits, uniform, drop_mass=0.7)
    near = sample(logits, uniform, drop_mass=0.7, nearness=Bins(edges).nearness(0, 0.4))
    assert set(by_themselves.tolist()) == {1, 6}  # a quarter each, from 0.4 to 1.2 away from the middle
    assert set(near.tolist()) == {2, 3, 4, 5}  # the middle
    shares = torch.bincount(near, minlength=8)[2:6] / 10_000
    torch.testing.assert_close(shares, cumulative.diff()[2:6] / cumulative.diff()[2:6].sum(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("drop_mass", [None, 0.4, 1.0])
def test_a_nearness_of_bins_to_themselves_alone_changes_nothing(top_k, drop_mass):
    logits = torch.randn(500, 9, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(500, generator=torch.Generator().manual_seed(1))
    tokens = sample(logits, uniform, top_k, drop_mass)
    assert torch.equal(tokens, sample(logits, uniform, top_k, drop_mass, nearness=torch.eye(8)))


def test_the_stop_token_is_never_proposed():
    assert likeliest(torch.tensor([[0.0, 1.0, 5.0]])).tolist() == [1]


def test_prompts_that_do_not_fit_are_refused():
    layout = Layout(2, 1)
    model, tokenizer = random_model(layout, transitions=6), random_tokenizer(layout)
    with pytest.raises(ValueError, match="ends with an observation"):
        plan_by_return(model, tokenizer, random_tokens(model, 1, 3), 2, 4)
    with pytest.raises(ValueError, match="crop"):
        beam_search(model, random_tokens(model, 1, model.length), 2, 4)
    with pytest.raises(ValueError, match="keep at most 5"):
        beam_search(model, random_tokens(model, 1, 2), 2, 4, keep=6)
    blind = random_model(Layout(2, 1, values=False))
    with pytest.raises(ValueError, match="reward tokens"):
        plan_by_return(blind, tokenizer, random_tokens(blind, 1, 2), 2, 4)
