"""Prediction: densities by hand, futures against full forwards and against a known distribution."""

import math

import gymnasium
import numpy as np
import pytest
import torch

from tests import oracle as slow
from tests.models import random_model, random_tokenizer, random_tokens
from ttlib.baselines.pets import Ensemble
from ttlib.choice import sample
from ttlib.datasets.policies import Behaviour
from ttlib.discretize import Bins, fit_uniform
from ttlib.hiding import HiddenWindows, draw_hidden
from ttlib.prediction import (
    Reference,
    draw_futures,
    log_shares,
    markovian,
    oracle,
    references,
    roll_out_ensemble,
    roll_out_simulator,
)
from ttlib.tokens import Layout, Tokenizer, TokenWindows
from ttlib.trajectories import Trajectories


def test_log_likelihood_and_oracle_by_hand_in_two_dimensions():
    """Four samples, two steps, bins of width 1/2 and 2; one dimension's bins of unequal width."""
    bins = Bins(torch.tensor([[0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 2.0, 4.0, 6.0, 9.0]]))
    drawn = torch.tensor(
        [[[0.1, 1.0], [1.9, 8.0]], [[0.2, 1.9], [1.8, 8.5]], [[0.7, 5.0], [0.1, 7.0]], [[0.3, 1], [0, 0]]]
    )
    came = bins.encode(np.array([[0.4, 1.5], [1.6, 3.0]]))
    shares = log_shares(bins.encode(drawn), came, bins=4, pseudocount=1.0)
    # Step 1: three of four in both bins. Step 2: two of four, and none of four.
    by_hand = [math.log(4 / 8) + math.log(4 / 8), math.log(3 / 8) + math.log(1 / 8)]
    torch.testing.assert_close(shares, torch.tensor(by_hand))
    torch.testing.assert_close(log_shares(bins.encode(drawn), came, 4, 0.0)[0], torch.tensor(2 * math.log(3 / 4)))
    best = oracle(bins, came)
    torch.testing.assert_close(best, torch.tensor([-math.log(0.5) - math.log(2), -math.log(0.5) - math.log(2)]))
    density = math.exp(shares[0] + best[0])  # of a uniform density in the bin: share / width, dimension by dimension
    assert density == pytest.approx((4 / 8 / 0.5) * (4 / 8 / 2))


def test_the_oracle_of_uniform_bins_is_that_of_appendix_b():
    data = np.random.default_rng(0).normal(size=(500, 3)) * [1, 5, 20]
    bins = fit_uniform(data, 100)
    expected = np.log(100 / np.ptp(data, axis=0)).sum()
    np.testing.assert_allclose(oracle(bins, bins.encode(data[:7])), expected, rtol=1e-3)


def test_a_bin_without_width_counts_as_one_wide():
    bins = Bins(torch.tensor([[0.0, 1.0, 1.0, 3.0]]))
    assert oracle(bins, torch.tensor([[1], [2]])).tolist() == pytest.approx([0.0, -math.log(2)])


def futures_slowly(model, prompt, horizon, samples, generator, keep, hide, actions):
    """The same draws with a full forward for every token."""
    layout, sequences = model.layout, prompt.repeat(samples, 1)
    bins, drawn = model.vocabulary - (hide > 0), []
    for step in range(horizon * layout.transition):
        slot = (layout.observation + step) % layout.transition
        logits = slow.next_logits(model, sequences, keep)
        if hide:
            logits = logits[:, [*range(bins), -1]]
        tokens = sample(logits, torch.rand(samples, generator=generator))
        if actions is not None and slot in range(layout.transition)[layout.actions]:
            tokens = torch.full((samples,), int(actions[step // layout.transition, slot - layout.observation]))
        drawn.append(tokens)
        if hide and slot < layout.observation:
            tokens = torch.where(torch.rand(samples, generator=generator) < hide, bins, tokens)
        sequences = torch.cat([sequences, tokens[:, None]], dim=1)
    return torch.stack(drawn, dim=1).view(samples, horizon, -1)[:, :, -layout.observation :]


@pytest.mark.parametrize("transitions", [2, 4])
@pytest.mark.parametrize(("hide", "told"), [(0.0, False), (0.5, False), (0.5, True)])
def test_futures_drawn_with_the_cache_are_those_of_full_forwards(transitions, hide, told):
    layout = Layout(3, 2, values=False)
    model = random_model(layout, transitions=transitions)
    prompt = random_tokens(model, 1, layout.length(1) + 3)[0]
    actions = random_tokens(model, 7, 2) if told else None
    keep = max(1, transitions // 2)
    fast, oracle_draws = (
        function(model, prompt, 7, 5, torch.Generator().manual_seed(1), **settings)
        for function, settings in (
            (draw_futures, {"actions": actions, "hide": hide}),
            (futures_slowly, {"actions": actions, "hide": hide, "keep": keep}),
        )
    )
    assert torch.equal(fast, oracle_draws)
    assert fast.max() < model.vocabulary - (hide > 0)


def test_with_positions_for_two_transitions_only_the_last_one_is_in_view():
    """What a Markovian model draws does not depend on what came before the transition before."""
    layout = Layout(2, 1, values=False)
    model = random_model(layout, transitions=2)
    tails = random_tokens(model, 1, layout.length(1) + 2)[0]
    assert draw_futures(model, tails, 4, 3, torch.Generator().manual_seed(0)).shape == (3, 4, 2)
    with pytest.raises(ValueError, match="ends with an observation and has fewer than 6 tokens, not from one of 6"):
        draw_futures(model, torch.cat([tails, tails[:1]]), 4, 3)


def test_the_markovian_twin_has_the_same_weights_and_two_transitions():
    model = random_model(Layout(2, 1, values=False))
    twin, tokens = markovian(model), random_tokens(model, 3, model.length)
    assert (model.transitions, twin.transitions) == (6, 2) and not twin.training
    with torch.inference_mode():
        whole, seen = model(tokens), twin(tokens[:, : twin.length])
    torch.testing.assert_close(seen, whole[:, : twin.length])
    shared = {weight.data_ptr() for weight in model.parameters()} & {weight.data_ptr() for weight in twin.parameters()}
    assert not shared, "training one would change the other"


def test_marginals_of_drawn_futures_are_those_of_the_model():
    """The first observation after a told action, against the product of the conditional probabilities."""
    layout = Layout(2, 1, values=False)
    model = random_model(layout, vocabulary=4)
    prompt, action = random_tokens(model, 1, 2)[0], torch.tensor([[3]])
    drawn = draw_futures(model, prompt, 1, 4000, torch.Generator().manual_seed(0), action)[:, 0]
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    sequences = torch.cat([torch.cat([prompt, action[0]]).expand(16, 3), pairs], dim=1)
    with torch.no_grad():
        logits = torch.log_softmax(model(sequences)[:, 2:4, :4], dim=-1)
    expected = logits.gather(2, pairs[..., None]).sum(dim=(1, 2)).exp()
    found = torch.bincount(4 * drawn[:, 0] + drawn[:, 1], minlength=16) / 4000
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_an_ensembles_futures_follow_one_network_each():
    """Networks that add 1, 2 or 3 to a state and are sure of it: after four steps a state has grown by 4, 8 or 12."""
    ensemble = Ensemble(2, 1, members=3, hidden=())
    with torch.no_grad():
        ensemble.weights[0].zero_()
        ensemble.biases[0][:, :, :2] = torch.arange(1.0, 4.0)[:, None, None]
        ensemble.biases[0][:, :, 2:] = -100.0
        ensemble.lowest.fill_(-40.0)
    seen = []

    def act(step, states):
        seen.append(states.copy())
        return np.zeros((len(states), 1))

    drawn = roll_out_ensemble(ensemble, np.array([0.5, -1.0]), 4, 6, act)
    grown = torch.tensor([1.0, 1, 2, 2, 3, 3])[:, None] * torch.arange(1, 5)
    torch.testing.assert_close(drawn[:, :, 0], 0.5 + grown)
    assert len(seen) == 4 and np.allclose(seen[0], [0.5, -1.0]) and np.allclose(seen[3], drawn[:, 2])
    hidden = []
    roll_out_ensemble(
        ensemble, np.array([0.5, np.nan]), 3, 600, lambda t, x: hidden.append(np.isnan(x)) or x[:, :1] * 0, hide=0.5
    )
    assert hidden[0].all(axis=0).tolist() == [False, True] and 0.4 < hidden[1].mean() < 0.6
    with pytest.raises(ValueError, match="7 futures cannot be shared evenly by 3 networks"):
        roll_out_ensemble(ensemble, np.zeros(2), 4, 7, act)


@pytest.mark.parametrize(("env_id", "numbers", "torques"), [("Hopper-v5", 11, 3), ("Humanoid45-v5", 45, 17)])
def test_the_simulator_draws_what_came_and_words_blur_it(env_id, numbers, torques):
    weights = [(torch.randn(torques, numbers, generator=torch.Generator().manual_seed(0)) * 0.1, torch.zeros(torques))]
    sure = Behaviour(weights, torch.zeros(numbers), torch.ones(numbers), torch.full((torques,), -torch.inf))
    (came,) = references(env_id, sure, 1, horizon=6, context=2, seed=5)
    start, rng = came.observations[1], np.random.default_rng(0)
    drawn = roll_out_simulator(env_id, sure, start, 6, 2, rng)
    np.testing.assert_allclose(drawn[0], came.future, atol=0.02)
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-3)  # its solver starts from where it was
    seen = []

    class Watched:
        def act(self, observations, rng):
            seen.append(observations.copy())
            return sure.act(observations, rng)

    errors = []
    for count in (400, 20_000):
        bins = Bins(torch.linspace(-20, 20, count + 1).expand(numbers + torques, -1))
        seen.clear()
        blurred = roll_out_simulator(env_id, Watched(), start, 2, 30, rng, bins)
        for known, near in zip((start[None], blurred[:, 0]), seen, strict=True):
            tokens, other = (bins.encode(values, slice(0, numbers)) for values in (known, near))
            assert (tokens - other).abs().max() <= (count > 400)  # a bin of two thousandths may be left by rounding
            assert len(np.unique(near[:, 0])) == 30
        errors.append(np.abs(blurred[:, 0] - drawn[0, 0]).mean())
    assert errors[1] < errors[0] / 20
    falling = start.copy()
    falling[2 if numbers == 11 else 0] -= 0.15 if numbers == 11 else 0.35  # near to what counts as a fall
    wild = Behaviour(sure.weights, sure.mean, sure.std, torch.zeros(torques))
    lean = roll_out_simulator(env_id, wild, falling, 8, 40, rng)
    env = gymnasium.make(env_id).unwrapped
    least, most = env._healthy_angle_range if numbers == 11 else env._healthy_z_range
    assert ((lean[:, :, 1 if numbers == 11 else 0] >= least) & (lean[:, :, 1 if numbers == 11 else 0] <= most)).all()
    with pytest.raises(ValueError, match="Ant-v5's observations are not its positions and velocities"):
        roll_out_simulator("Ant-v5", sure, np.zeros(105), 2, 1, rng)


def recorded(length=9):
    rng = np.random.default_rng(0)
    return Reference(rng.normal(size=(length, 2)), rng.normal(size=(length - 1, 1)), context=4)


def test_a_prompt_is_what_training_windows_hold():
    reference = recorded()
    tokenizer = random_tokenizer(Layout(2, 1, values=False))
    trajectories = Trajectories.from_episodes(
        [
            {
                "observations": reference.observations[:-1],
                "actions": reference.actions,
                "rewards": np.zeros(8),
                "terminal": False,
            }
        ]
    )
    window, _ = TokenWindows(tokenizer, trajectories, 4).batch([0])
    assert torch.equal(reference.prompt(tokenizer, 4), window[0, :11])
    assert torch.equal(reference.prompt(tokenizer, 2), window[0, 6:11])
    hidden = draw_hidden((9, 2), 0.5, 0)
    window, _ = HiddenWindows(tokenizer, trajectories, hidden[:8], 4).batch([0])
    assert torch.equal(reference.prompt(tokenizer, 4, hidden), window[0, :11])
    np.testing.assert_array_equal(reference.future, reference.observations[4:])
    np.testing.assert_array_equal(reference.future_actions, reference.actions[3:])
    with pytest.raises(ValueError, match="up to its start, not 5"):
        reference.prompt(tokenizer, 5)
    with pytest.raises(ValueError, match="--no-values"):
        reference.prompt(random_tokenizer(Layout(2, 1)), 2)


def test_references_are_stretches_of_fresh_episodes():
    weights = [(torch.randn(3, 11, generator=torch.Generator().manual_seed(0)) * 0.1, torch.zeros(3))]
    behaviour = Behaviour(weights, torch.zeros(11), torch.ones(11), torch.full((3,), -1.0))
    found = references("Hopper-v5", behaviour, 3, horizon=4, context=2, seed=5)
    again = references("Hopper-v5", behaviour, 3, horizon=4, context=2, seed=5)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        assert one.observations.shape == (6, 11) and one.actions.shape == (5, 3) and one.future.shape == (4, 11)
        assert one.future_actions.shape == (4, 3)
    assert not np.array_equal(found[0].observations, found[1].observations)
    with pytest.raises(ValueError, match="ask for a shorter horizon"):
        references("Hopper-v5", behaviour, 1, horizon=900, context=2, seed=5)


def test_hidden_tokens_are_read_and_not_learned():
    rng = np.random.default_rng(1)
    episodes = [
        {
            "observations": rng.normal(size=(20, 3)),
            "actions": rng.uniform(-1, 1, (20, 1)),
            "rewards": np.zeros(20),
            "terminal": end,
        }
        for end in (True, False)
    ]
    data = Trajectories.from_episodes(episodes)
    tokenizer = Tokenizer.fit(data, bins=10, values=False)
    hidden = draw_hidden(data.observations.shape, 0.5, 0)
    whole, half = TokenWindows(tokenizer, data, 3), HiddenWindows(tokenizer, data, hidden, 3)
    (tokens, counted), (seen, learned) = whole.batch([4, 18]), half.batch([4, 18])
    unseen = seen == 10
    expected = np.concatenate([hidden[4:7], np.zeros((3, 1), dtype=bool)], axis=1).flatten()
    assert unseen[0].tolist() == expected.tolist() and not learned[unseen].any()
    stopped = tokens == 10  # of the second window, after its terminal
    assert stopped.any() and (seen[stopped] == 11).all() and learned[stopped].all()
    rest = ~unseen & ~stopped
    assert torch.equal(seen[rest], tokens[rest]) and torch.equal(learned[rest], counted[rest])
    assert torch.equal(whole.batch([4])[0], TokenWindows(tokenizer, data, 3).batch([4])[0])  # not written to
    with pytest.raises(ValueError, match="is an array of that shape"):
        HiddenWindows(tokenizer, data, hidden[:5], 3)
