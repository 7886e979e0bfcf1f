from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from ttlib.baselines.decision_training import Settings, Stretches, loss_of, train
from ttlib.baselines.decision_transformer import (
    DecisionTransformer,
    TargetController,
    load_model,
    predict_returns,
    save_model,
)
from ttlib.evaluation import evaluate
from ttlib.trajectories import Trajectories


def random_model(seed=0, **settings):
    """A model with large weights, so that its outputs are far from flat."""
    torch.manual_seed(seed)
    size = {"observation": 2, "action": 3, "context": 4, "longest": 12, "scale": 5.0, "layers": 2, "width": 32}
    model = DecisionTransformer(**(size | settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3) if parameter.ndim > 1 else None
    return model


def random_sequence(model, rows=3, length=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    actions = (
        torch.randint(model.action, (rows, length), generator=generator)
        if model.discrete
        else torch.rand(rows, length, model.action, generator=generator)
    )
    times = torch.arange(length).expand(rows, length)
    return [
        torch.randn(rows, length, generator=generator),
        torch.randn(rows, length, model.observation, generator=generator),
        actions,
        times,
    ]


def attend_plainly(model, returns, observations, actions, times):
    """One sequence, token by token, with nothing but the weights: the output at each observation."""
    tokens = []
    for t in range(len(returns)):
        time = model.embed_time.weight[times[t]]
        scaled = model.embed_return.weight[:, 0] * returns[t] / model.scale + model.embed_return.bias
        seen = (observations[t] - model.mean) / model.std
        tokens += [scaled + time, model.embed_observation.weight @ seen + model.embed_observation.bias + time]
        acted = (
            model.embed_action.weight[actions[t]]
            if model.discrete
            else model.embed_action.weight @ actions[t] + model.embed_action.bias
        )
        tokens.append(acted + time)
    x = [model.embed_norm(token) for token in tokens]
    for block in model.blocks:
        parts = [block.qkv(block.norm1(token)).view(3, model.heads, -1) for token in x]
        mixed = []
        for now in range(len(x)):
            heads = []
            for head in range(model.heads):
                query = parts[now][0, head]
                scores = torch.stack([query @ parts[past][1, head] for past in range(now + 1)])
                weights = (scores / len(query) ** 0.5).softmax(dim=0)
                heads.append(sum(weights[past] * parts[past][2, head] for past in range(now + 1)))
            mixed.append(x[now] + block.out(torch.cat(heads)))
        x = [token + block.down(torch.relu(block.up(block.norm2(token)))) for token in mixed]
    out = torch.stack([model.action_head(model.norm(token)) for token in x[1::3]])
    return out if model.discrete else torch.tanh(out)


@pytest.mark.parametrize("discrete", [False, True])
def test_the_model_is_what_plain_attention_gives(discrete):
    model = random_model(discrete=discrete, heads=2)
    model.standardise(np.random.default_rng(0).normal(3, 2, size=(50, 2)))
    sequence = random_sequence(model)
    with torch.no_grad():
        expected = torch.stack([attend_plainly(model, *(part[row] for part in sequence)) for row in range(3)])
        torch.testing.assert_close(model(*sequence)[0], expected, rtol=1e-4, atol=1e-4)


def test_no_step_sees_what_comes_later_nor_its_own_action():
    model = random_model()
    sequence = random_sequence(model)
    with torch.no_grad():
        before = model(*sequence)[0]
        for part, first in zip(sequence[:3], (2, 2, 1), strict=True):
            part[:, first:] = 7.0
        after = model(*sequence)[0]
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2:], before[:, 2:], atol=1e-3)


def test_hidden_returns_do_not_matter():
    model = random_model(outcomes=(0.0, 1.0))
    returns, *rest = random_sequence(model)
    hidden = torch.tensor([True, False, True])
    with torch.no_grad():
        one, guess = model(returns, *rest, hidden)
        other, guess_again = model(returns + 1, *rest, hidden)
    torch.testing.assert_close(one[hidden], other[hidden])
    torch.testing.assert_close(guess[hidden], guess_again[hidden])
    assert not torch.allclose(one[1], other[1], atol=1e-3)


def episodes(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return Trajectories.from_episodes(
        [
            {
                "observations": rng.normal(size=(n, 2)),
                "actions": rng.uniform(-1, 1, size=(n, 3)),
                "rewards": rng.normal(size=n),
                "terminal": k % 2 == 0,
            }
            for k, n in enumerate(lengths)
        ]
    )


def test_stretches_hold_the_returns_to_go_and_stop_at_the_episodes_end():
    data = episodes([3, 7])
    stretches = Stretches(data, 4)
    returns, observations, actions, times, real = stretches.batch(500, torch.Generator().manual_seed(0))
    begun = set()
    for row in range(500):
        start = int(np.flatnonzero((data.observations == observations[row, 0].numpy()).all(axis=1))[0])
        first, stop = (0, 3) if start < 3 else (3, 10)
        count = min(4, stop - start)
        begun.add(start)
        assert real[row].tolist() == [True] * count + [False] * (4 - count)
        assert times[row, :count].tolist() == list(range(start - first, start - first + count))
        np.testing.assert_array_equal(actions[row, :count], data.actions[start : start + count])
        expected = [data.rewards[t:stop].sum() for t in range(start, start + count)]
        np.testing.assert_allclose(returns[row, :count], expected, rtol=1e-4, atol=1e-5)
    assert begun == set(range(10))  # every step begins some
    whole = Stretches(data, 4, whole=True).batch(50, torch.Generator().manual_seed(0))
    assert (whole[3][:, 0] == 0).all()
    assert set(whole[1][:, 0, 0].tolist()) == set(data.observations[[0, 3], 0].tolist())
    again = Stretches(data, 4, restart=True).batch(500, torch.Generator().manual_seed(0))
    assert torch.equal(again[1], observations)
    assert (again[3][:, 0] == 0).all()
    assert again[3][0, 1] == 1


def test_rare_returns_are_drawn_as_often_as_common_ones():
    data = Trajectories.from_episodes(
        [
            {"observations": np.ones((2, 2)), "actions": np.ones((2, 3)), "rewards": [0, k == 7], "terminal": True}
            for k in range(50)
        ]
    )
    drawn = Stretches(data, 2, whole=True, even=True).batch(1000, torch.Generator().manual_seed(0))[0][:, 0]
    assert 0.44 < drawn.mean() < 0.56
    assert Stretches(data, 2, whole=True).batch(1000, torch.Generator().manual_seed(0))[0][:, 0].mean() < 0.06


def test_padding_changes_neither_predictions_nor_loss():
    model, data = random_model(), episodes([2, 3])
    batch = list(Stretches(data, 4).batch(6, torch.Generator().manual_seed(0)))
    real, hidden = batch[4], torch.zeros(6, dtype=torch.bool)
    assert not real.all()
    with torch.no_grad():
        chosen, loss = model(*batch[:4])[0][real], loss_of(model, batch, hidden)[0]
        for place in range(3):
            batch[place] = torch.where(real.view(6, 4, *[1] * (batch[place].ndim - 2)), batch[place], 9.0)
        torch.testing.assert_close(model(*batch[:4])[0][real], chosen)
        torch.testing.assert_close(loss_of(model, batch, hidden)[0], loss)
        short = [part[:1, :1] for part in batch[:4]]
        torch.testing.assert_close(model(*short)[0], model(*(part[:1] for part in batch[:4]))[0][:, :1])


class Drift(gymnasium.Env):
    """Three numbers push a point; rewards and ends depend on where it is."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.normal(size=2), 0
        return self.place.astype(np.float32), {}

    def step(self, action):
        action = np.atleast_1d(action)
        self.place = self.place + 0.3 * np.array([action.sum(), np.sin(self.steps)])
        self.steps += 1
        ended = self.steps >= 5 and self.place[1] > 0.2
        return self.place.astype(np.float32), float(self.place[0]), bool(ended), self.steps >= 9, {}


@pytest.mark.parametrize("discrete", [False, True])
def test_episodes_in_lock_step_act_as_each_would_alone(discrete):
    model = random_model(discrete=discrete)
    targets = [1.0, -2.0, 4.0, 0.5]
    rollouts = evaluate(Drift, TargetController(model, targets, context=3), 4, seed=3)
    assert len(set(rollouts.lengths.tolist())) > 1
    for target, run in zip(targets, rollouts.episodes, strict=True):
        asked = target - np.concatenate([[0], np.cumsum(run["rewards"])[:-1]])
        for step in range(len(run["rewards"])):
            past = slice(max(0, step - 2), step + 1)
            actions = torch.tensor(np.array(run["actions"][past]))
            times = torch.arange(past.start, past.stop)
            sequence = (torch.tensor(asked[past]).float(), torch.tensor(run["observations"][past]).float())
            with torch.no_grad():
                chosen = attend_plainly(model, *sequence, actions, times)[-1]
            if discrete:
                assert run["actions"][step] == chosen.argmax()
            else:
                np.testing.assert_allclose(run["actions"][step], chosen, rtol=1e-3, atol=1e-4)


def bandit(count=400, seed=0):
    """Two steps; each action 0 .. 2 is drawn at random and paid its own number, so a return is a sum of two."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(3, size=(count, 2))
    data = Trajectories(
        observations=np.tile(np.eye(2), (count, 1)),
        actions=actions.reshape(-1, 1),
        rewards=actions.ravel(),
        terminals=np.tile([False, True], count),
        timeouts=np.zeros(2 * count, dtype=bool),
    )
    return Stretches(data, 2, discrete=True, whole=True)


def small(**settings):
    torch.manual_seed(0)
    size = {"context": 2, "longest": 2, "scale": 2.0, "layers": 1, "width": 32, "dropout": 0.0}
    return DecisionTransformer(2, 3, discrete=True, **(size | settings))


FAST = Settings(updates=150, learning_rate=5e-3, warmup=10, log_every=10, save_every=20)


class Payment(gymnasium.Env):
    """The bandit as an environment."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (2,), np.float32), gymnasium.spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.steps = 0
        return np.array([1, 0], np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.array([0, 1], np.float32), float(action), self.steps == 2, False, {}


def test_the_rate_rises_and_falls_to_its_floor():
    falling, kept = (Settings(updates=110, learning_rate=1.0, warmup=10, floor=floor) for floor in (0.2, 1.0))
    assert falling.rate(0) == pytest.approx(0.1) and falling.rate(10) == 1.0
    assert falling.rate(60) == pytest.approx(0.6) and falling.rate(110) == pytest.approx(0.2)
    assert kept.rate(0) == pytest.approx(0.1) and kept.rate(60) == kept.rate(109) == 1.0


def test_it_returns_what_it_is_asked_for():
    model = small()
    train(model, bandit(), FAST)
    asked = np.arange(5)
    assert evaluate(Payment, TargetController(model, asked), 5, seed=0).returns.tolist() == asked.tolist()


def test_episodes_of_more_than_a_thousand_steps_are_read_to_their_end():
    rng, steps = np.random.default_rng(0), 1100
    end = np.arange(steps) == steps - 1
    data = Trajectories(
        rng.normal(size=(steps, 2)), rng.uniform(-1, 1, (steps, 1)), np.ones(steps), np.zeros(steps, bool), end
    )
    model = DecisionTransformer.of(data, layers=1, width=32)
    assert model.longest == steps and DecisionTransformer.of(data, longest=1200).longest == 1200
    np.testing.assert_allclose(model.mean.numpy(), data.observations.mean(axis=0), rtol=1e-4, atol=1e-5)
    curve = train(model, Stretches(data, model.context), replace(FAST, updates=10))
    assert np.isfinite(curve[-1]["action"])


def test_without_returns_it_imitates_and_predicts_what_will_come():
    model = small(outcomes=tuple(range(5)))
    train(model, bandit(2000), Settings(**(vars(FAST) | {"hide": 1.0})))
    actions = torch.tensor([[0, 0], [1, 0], [2, 0]])
    likely = predict_returns(model, torch.eye(2).expand(3, 2, 2), actions)
    values = torch.arange(5.0)
    np.testing.assert_allclose(likely[:, 0] @ values, [2, 2, 2], atol=0.3)  # before anything was done
    np.testing.assert_allclose(likely[:, 1] @ values, [1, 1, 1], atol=0.3)  # what is still to come, whatever came
    played = evaluate(Payment, TargetController(model, None, sample=True), 300, seed=0).returns
    assert 1.7 < played.mean() < 2.3


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    settings = Settings(updates=40, warmup=10, hide=0.3, log_every=5, save_every=10)

    def model(seed=0):
        torch.manual_seed(seed)
        return small(outcomes=(0.0, 4.0), dropout=0.1)

    class Stop(Exception):
        pass

    def stop(row):
        if row["step"] >= 25:
            raise Stop

    whole, killed = model(), model()
    train(whole, bandit(), settings)
    with pytest.raises(Stop):
        train(killed, bandit(), settings, tmp_path, stop)
    resumed = model(seed=9)
    curve = train(resumed, bandit(), settings, tmp_path)
    assert [row["step"] for row in curve] == list(range(5, 45, 5))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="other settings"):
        train(model(), bandit(), Settings(**(vars(settings) | {"seed": 3})), tmp_path)


def picture_encoder():
    return nn.Sequential(nn.Unflatten(1, (3, 8, 8)), nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 32))


def test_a_checkpoint_gives_the_model_back_with_its_encoder(tmp_path):
    torch.manual_seed(0)
    size = {"observation": 192, "action": 5, "discrete": True, "context": 3, "longest": 9, "outcomes": (0.0, 1.0)}
    model = DecisionTransformer(**size, layers=1, width=32, encoder=picture_encoder()).eval()
    save_model(tmp_path / "m.safetensors", model, {"dataset": "pictures"})
    again, about = load_model(tmp_path / "m.safetensors", picture_encoder())
    assert about == {"dataset": "pictures"}
    assert again.size() == model.size()
    sequence = random_sequence(model, length=3)
    with torch.no_grad():
        for one, other in zip(model(*sequence), again(*sequence), strict=True):
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
    with pytest.raises(ValueError, match="another encoder"):
        load_model(tmp_path / "m.safetensors")


def test_what_does_not_fit_is_refused():
    model = random_model()
    with pytest.raises(ValueError, match="context of 5"):
        TargetController(model, 1.0, context=5)
    with pytest.raises(ValueError, match="not discrete"):
        TargetController(model, 1.0, sample=True)
    controller = TargetController(model, 1.0)
    controller.reset(2)
    with pytest.raises(ValueError, match="3 observation numbers, the model 2"):
        controller.act(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="20 steps is longer than the 12"):
        train(model, Stretches(episodes([20]), 4), FAST)
    with pytest.raises(ValueError, match="without outcomes"):
        predict_returns(model, torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        DecisionTransformer(2, 3, width=10, heads=3)
