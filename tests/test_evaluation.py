"""Evaluation: episodes are seeded one by one, sums and ends are right, a model of another world is refused."""

import numpy as np
import pytest

from tests.line import Line
from tests.models import random_model, random_tokenizer
from ttlib.control import ReturnController
from ttlib.evaluation import evaluate
from ttlib.model import load_model, save_model
from ttlib.tokens import Layout


class Constant:
    """A controller that always acts alike, and notes which rows it is asked for."""

    def __init__(self, action):
        self.action, self.batches = action, []

    def reset(self, episodes):
        self.batches = []

    def act(self, observations):
        self.batches.append(len(observations))
        return np.full((len(observations), 1), self.action, dtype=np.float32)

    def observe(self, rewards):
        assert len(rewards) == self.batches[-1]

    def drop(self, going):
        assert len(going) == self.batches[-1] and not going.all()


def test_evaluate_sums_rewards_and_tells_terminals_from_timeouts():
    places = [{"place": 0.75}, {"place": -20.0}, {"place": 0.25}]
    controller = Constant(0.5)
    rollouts = evaluate(Line, controller, 3, seed=0, options=places)
    assert rollouts.lengths.tolist() == [1, 12, 2]
    assert rollouts.terminals.tolist() == [True, False, True]
    np.testing.assert_allclose(rollouts.returns, [1.25, sum(-20 + 0.5 * k for k in range(1, 13)), 0.75 + 1.25])
    assert controller.batches == [3, 2, *[1] * 10]
    assert [len(run["observations"]) for run in rollouts.episodes] == [2, 13, 3]


def test_episodes_are_seeded_one_by_one():
    first = evaluate(Line, Constant(0.0), 3, seed=5, max_steps=2)
    second = evaluate(Line, Constant(0.0), 2, seed=6, max_steps=2)
    np.testing.assert_array_equal(first.returns[1:], second.returns)
    assert len(set(first.returns.tolist())) == 3


def test_recorded_has_the_state_before_each_step_and_after_the_last():
    rollouts = evaluate(Line, Constant(0.5), 1, 0, record=lambda env: env.place, options=[{"place": 0.0}])
    assert rollouts.episodes[0]["recorded"].tolist() == [0.0, 0.5, 1.0, 1.5]


def test_a_model_of_another_observation_is_refused():
    other = Layout(3, 1)
    with pytest.raises(ValueError, match="3 observation"):
        evaluate(Line, ReturnController(random_model(other), random_tokenizer(other), 2, 2), 1, seed=0)


def test_another_version_of_the_environment_than_the_datas_is_refused(tmp_path):
    layout = Layout(11, 3)
    model = random_model(layout)
    old = random_tokenizer(layout, env_id="Hopper-v4")
    with pytest.raises(ValueError, match="trained on data of Hopper-v4, not of Hopper-v5"):
        evaluate("Hopper-v5", ReturnController(model, old, 1, 2), 1, seed=0)
    # What a checkpoint says of its data is known again when it is loaded.
    save_model(tmp_path / "model.safetensors", model, old, {})
    _, loaded, _ = load_model(tmp_path / "model.safetensors")
    assert loaded.env_id == "Hopper-v4"
    save_model(tmp_path / "model.safetensors", model, random_tokenizer(layout), {"env_id": "Hopper-v5"})
    model, loaded, _ = load_model(tmp_path / "model.safetensors")
    assert len(evaluate("Hopper-v5", ReturnController(model, loaded, 1, 2), 1, seed=0, max_steps=2).returns) == 1
