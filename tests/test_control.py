"""Controllers: prompts hold what happened, plans are enacted, bad settings are refused."""

import numpy as np
import pytest
import torch

from tests.line import Line
from tests.models import random_model, random_tokenizer
from ttlib.control import LikelihoodController, QController, ReturnController
from ttlib.discretize import Bins
from ttlib.evaluation import evaluate
from ttlib.q_search import plan_by_q
from ttlib.search import beam_search, plan_by_return
from ttlib.tokens import Layout


def controllers(**settings):
    values, plain = Layout(2, 1), Layout(2, 1, values=False)
    return [
        ReturnController(random_model(values), random_tokenizer(values), 3, 4, **settings),
        LikelihoodController(random_model(plain), random_tokenizer(plain), 3, 4, **settings),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_the_same_seeds_give_the_same_rollouts(which):
    once, again = (evaluate(Line, controllers(context=2)[which], 3, seed=0) for _ in range(2))
    np.testing.assert_array_equal(once.returns, again.returns)


def test_the_prompt_holds_the_last_transitions_as_they_happened():
    controller = controllers(context=3)[0]
    prompts = []
    search = controller.search
    controller.search = lambda prompt: prompts.append(prompt) or search(prompt)
    run = evaluate(Line, controller, 1, seed=0, options=[{"place": -9.0}]).episodes[0]
    bins = controller.tokenizer.bins
    for step, prompt in enumerate(prompts):
        first = max(0, step - 2)
        assert prompt.shape[1] == (step - first) * 5 + 2
        for place, past in enumerate(range(first, step)):
            row = np.concatenate([run["observations"][past], run["actions"][past], [run["rewards"][past]]])
            expected = bins.encode(row.astype(np.float32), slice(0, 4))
            assert torch.equal(prompt[0, place * 5 : place * 5 + 4], expected)
        assert torch.equal(prompt[0, -2:], bins.encode(run["observations"][step], slice(0, 2)))


def test_plan_every_enacts_several_actions_of_a_plan():
    controller = controllers(plan_every=3)[1]
    plans = []
    search = controller.search
    controller.search = lambda prompt: plans.append(search(prompt)) or plans[-1]
    run = evaluate(Line, controller, 1, seed=0, max_steps=6, options=[{"place": -50.0}]).episodes[0]
    assert len(plans) == 2
    slots = [0, 3, 6]
    for number, plan in enumerate(plans):
        expected = controller.tokenizer.bins.decode(plan.tokens[0, 0, slots][:, None], slice(2, 3))
        np.testing.assert_array_equal(run["actions"][3 * number : 3 * number + 3], expected)


def test_a_goal_stands_in_front_of_the_prompt():
    layout = Layout(2, 1, values=False, goal=2)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    goals = np.array([[0.5, -0.5], [1.0, 1.0]], dtype=np.float32)
    controller = LikelihoodController(model, tokenizer, 1, 4, goals=goals)
    controller.reset(2)
    observations = np.zeros((2, 2), dtype=np.float32)
    actions = controller.act(observations)
    prompt = torch.cat([tokenizer.bins.encode(goals, slice(0, 2)), tokenizer.bins.encode(observations, slice(0, 2))], 1)
    best = beam_search(model, prompt, 1, 4).tokens[:, 0]
    np.testing.assert_array_equal(actions, tokenizer.bins.decode(best, slice(2, 3)))


def test_a_tolerance_lets_actions_near_a_token_count_for_it():
    layout = Layout(2, 2, values=False)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    observations = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    prompt, actions = tokenizer.bins.encode(observations, slice(0, 2)), {}
    for tolerance in (0.0, 0.5):
        nearness = {slot: tokenizer.bins.nearness(slot, tolerance) for slot in (2, 3) if tolerance}
        best = beam_search(model, prompt, 2, 4, nearness=nearness).tokens[:, 0]
        controller = LikelihoodController(model, tokenizer, 1, 4, tolerance=tolerance)
        controller.reset(8)
        actions[tolerance] = controller.act(observations)
        np.testing.assert_array_equal(actions[tolerance], tokenizer.bins.decode(best, slice(2, 4)))
    assert (actions[0.0] != actions[0.5]).any()


def test_a_return_planner_with_a_tolerance_leaves_out_what_has_little_near_it():
    layout = Layout(2, 2)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    observations = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    prompt, actions = tokenizer.bins.encode(observations, slice(0, 2)), {}
    for tolerance in (0.0, 0.5):
        nearness = {slot: tokenizer.bins.nearness(slot, tolerance) for slot in (2, 3) if tolerance}
        generator = torch.Generator().manual_seed(7)
        best = plan_by_return(model, tokenizer, prompt, 2, 4, nearness=nearness, generator=generator).tokens[:, 0]
        controller = ReturnController(model, tokenizer, 2, 4, tolerance=tolerance, seed=7)
        controller.reset(8)
        actions[tolerance] = controller.act(observations)
        np.testing.assert_array_equal(actions[tolerance], tokenizer.bins.decode(best[:, :2], slice(2, 4)))
    assert (actions[0.0] != actions[0.5]).any()


class Slope:
    """A critic that likes large actions."""

    scale, shift = 1.0, 0.0

    def q(self, observations, actions):
        return 3 * actions[:, 0] - observations[:, 0]


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1e6])
@pytest.mark.parametrize("by_q", [False, True])
def test_a_planner_enacts_the_mean_of_its_beams_by_their_scores(by_q, temperature):
    layout = Layout(2, 2)
    model, tokenizer = random_model(layout), random_tokenizer(layout)
    bins, observations = tokenizer.bins, np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    settings = {"drop_mass": 0.0, "expand": 3}
    chance = torch.Generator().manual_seed(3)
    prompt = bins.encode(observations, slice(0, 2))
    kind, critic = (QController, {"critic": Slope()}) if by_q else (ReturnController, {})
    search = plan_by_q if by_q else plan_by_return
    plan = search(model, tokenizer, *critic.values(), prompt, 2, 6, generator=chance, **settings)
    controller = kind(model, tokenizer, 2, 6, temperature=temperature, plan_every=2, seed=3, **critic, **settings)
    controller.reset(4)
    enacted = [controller.act(observations)]
    controller.observe(np.zeros(4, dtype=np.float32))
    enacted.append(controller.act(observations))  # the second one of the same plans
    for step, found in enumerate(enacted):
        span = slice(step * layout.transition, step * layout.transition + 2)
        actions = bins.decode(plan.tokens[:, :, span], slice(2, 4)).numpy()
        if temperature:
            weights = np.exp((plan.scores - plan.scores[:, :1]).numpy() / temperature)
            expected = (weights[..., None] * actions).sum(axis=1) / weights.sum(axis=1, keepdims=True)
        else:
            expected = actions[:, 0]
        expected = bins.decode(bins.encode(torch.from_numpy(expected), slice(2, 4)), slice(2, 4))
        np.testing.assert_array_equal(found, expected)


def test_what_does_not_fit_is_refused():
    layout = Layout(2, 1)
    model, tokenizer = random_model(layout, transitions=6), random_tokenizer(layout)
    with pytest.raises(ValueError, match="temperature of -1 is below 0"):
        ReturnController(model, tokenizer, 3, 4, temperature=-1)
    with pytest.raises(ValueError, match="context of 7"):
        ReturnController(model, tokenizer, 3, 4, context=7)
    with pytest.raises(ValueError, match="4 actions"):
        ReturnController(model, tokenizer, 3, 4, plan_every=4)
    with pytest.raises(ValueError, match="tolerance of -0.1 is below 0"):
        LikelihoodController(model, tokenizer, 3, 4, tolerance=-0.1)
    with pytest.raises(ValueError, match="tolerance of -0.1 is below 0"):
        ReturnController(model, tokenizer, 3, 4, tolerance=-0.1)
    with pytest.raises(ValueError, match="without goals"):
        ReturnController(model, tokenizer, 3, 4, goals=np.zeros((1, 2)))


def test_tokens_lie_where_the_model_is(monkeypatch):
    layout, moved = Layout(2, 1), []
    monkeypatch.setattr(Bins, "to", lambda bins, device: moved.append(str(device)) or bins)
    LikelihoodController(random_model(layout).to("meta"), random_tokenizer(layout), 2, 2)
    assert moved == ["meta"]
