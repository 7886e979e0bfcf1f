"""Episodes that a killed run had begun: they go on as if nothing had happened."""

import gymnasium
import numpy as np
import pytest

import ttlib.envs  # noqa: F401
from tests.models import random_model, random_tokenizer
from tests.test_q_search import Critic
from ttlib.control import QController, ReturnController
from ttlib.evaluation import evaluate
from ttlib.studies.resume import Resumed
from ttlib.tokens import Layout

LAYOUT = Layout(4, 2)
ABOUT = {"seed": 11, "episodes": 3}


def planner(kind=ReturnController, **settings):
    model, tokenizer = random_model(LAYOUT, width=16), random_tokenizer(LAYOUT)
    extra = {"critic": Critic(LAYOUT)} if kind is QController else {}
    return kind(model, tokenizer, horizon=3, beam_width=4, context=3, seed=5, **extra, **settings)


def make():
    """A maze of 12 steps, some fewer for one of the episodes, so that the batch shrinks on the way."""
    return gymnasium.make("PointMazeUMaze-v0", max_episode_steps=12)


class Fewer(gymnasium.Wrapper):
    """Ends the episode that begins farthest to the left after 5 steps."""

    def reset(self, **arguments):
        self.left = 5 if arguments["seed"] == ABOUT["seed"] + 1 else 100
        return super().reset(**arguments)

    def step(self, action):
        self.left -= 1
        observation, reward, terminal, truncated, info = super().step(action)
        return observation, reward, terminal or self.left == 0, truncated, info


class Killed(Exception):
    pass


class Mortal:
    """A controller that is killed at a step."""

    def __init__(self, controller, at):
        self.controller, self.left = controller, at

    def act(self, observations):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.controller.act(observations)

    def __getattr__(self, name):
        return getattr(self.controller, name)


def run(controller):
    return evaluate(lambda: Fewer(make()), controller, ABOUT["episodes"], ABOUT["seed"])


@pytest.mark.parametrize("kind", [ReturnController, QController])
@pytest.mark.parametrize("plan_every", [1, 2])
def test_a_run_that_was_killed_twice_ends_as_one_that_was_not(tmp_path, kind, plan_every):
    whole = run(planner(kind, plan_every=plan_every))
    assert sorted(whole.lengths.tolist()) == [5, 12, 12]
    path = tmp_path / "half-done.safetensors"
    for at in (4, 3):
        with pytest.raises(Killed):
            run(Resumed(Mortal(planner(kind, plan_every=plan_every), at), path, ABOUT, every=0.0))
    resumed = Resumed(planner(kind, plan_every=plan_every), path, ABOUT)
    again = run(resumed)
    assert resumed.spent > 0 and path.exists()
    for one, other in zip(whole.episodes, again.episodes, strict=True):
        np.testing.assert_array_equal(one["observations"], other["observations"])
        np.testing.assert_array_equal(one["actions"], other["actions"])


def test_what_was_enacted_is_not_planned_again(tmp_path):
    path = tmp_path / "half-done.safetensors"
    with pytest.raises(Killed):
        run(Resumed(Mortal(planner(), 7), path, ABOUT, every=0.0))
    second = planner()
    counted, search = [], second.search
    second.search = lambda prompt: counted.append(len(prompt)) or search(prompt)
    run(Resumed(second, path, ABOUT))
    assert len(counted) == 12 - 7  # kept before each plan, so the seven enacted steps are known


def test_nothing_is_kept_before_it_is_due(tmp_path):
    run(Resumed(planner(), tmp_path / "half-done.safetensors", ABOUT, every=1000.0))
    assert not list(tmp_path.iterdir())


def test_other_episodes_and_other_physics_and_damage_are_refused(tmp_path):
    path = tmp_path / "half-done.safetensors"
    with pytest.raises(Killed):
        run(Resumed(Mortal(planner(), 7), path, ABOUT, every=0.0))
    with pytest.raises(ValueError, match="recorded for other episodes; delete it"):
        run(Resumed(planner(), path, ABOUT | {"seed": 12}))

    class Slower(gymnasium.Wrapper):
        def step(self, action):
            return super().step(0.9 * action)

    with pytest.raises(ValueError, match="do not go as they are recorded .* another version of the environment"):
        evaluate(lambda: Slower(Fewer(make())), Resumed(planner(), path, ABOUT), ABOUT["episodes"], ABOUT["seed"])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        run(Resumed(planner(), path, ABOUT))
