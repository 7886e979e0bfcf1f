"""IQL with values of places: on a corridor whose values, stretches and best actions are known."""

import numpy as np
import pytest
import torch

from ttlib.baselines import common, maze_iql
from ttlib.baselines.maze_iql import MazeIQL, MazeSettings
from ttlib.trajectories import Trajectories

STEP, GOAL = 0.2, 4.0


def corridor(episodes=150, longest=40, seed=0):
    """Bodies at x, with a number that means nothing, that go to and fro: an action's sign is the way, its size luck."""
    rng, recorded = np.random.default_rng(seed), []
    for _ in range(episodes):
        run = {"observations": [], "actions": [], "rewards": [], "terminal": False}
        x = rng.uniform(0, GOAL)
        while len(run["rewards"]) < longest and not run["terminal"]:
            way = rng.choice([-1.0, 1.0])
            run["observations"].append([x, rng.uniform(-0.1, 0.1), rng.normal()])
            run["actions"].append([way * rng.uniform(0.1, 0.3)])
            x = max(0.0, x + way * STEP)
            run["terminal"] = x >= GOAL
            run["rewards"].append(float(run["terminal"]))
        if len(run["rewards"]) > 1:
            recorded.append(run)
    return Trajectories.from_episodes(recorded, name="local:antmaze-umaze", env_id="AntMazeUMaze-v0")


def settings(**changes):
    quick = {"updates": 1500, "batch": 256, "learning_rate": 3e-3, "hidden": (32, 32), "discount": 0.95, "dropout": 0.0}
    quick |= {"n_step": 2, "value_steps": 5, "log_every": 500, "save_every": 500, "temperature": 1.0}
    return MazeSettings(**(quick | changes))


@pytest.fixture(scope="module")
def data():
    return corridor()


@pytest.fixture(scope="module")
def agent(data):
    return maze_iql.train(data, settings())[0]


def seen(*places):
    return torch.tensor([[x, 0.0, 0.0] for x in places])


def test_v_rises_toward_the_goal_and_q_is_what_the_next_steps_bring(agent, data):
    places = torch.linspace(0.5, 3.5, 7)
    v = agent.value(seen(*places))
    assert (v.diff() > 0).all() and v[-1] < -1
    # Two steps: this one, and one of a coin's throw; V on the way is that of the table.
    for x in (1.0, 2.0, 3.0):
        for way in (-1.0, 1.0):
            ends = agent.value(seen(x + way * STEP + STEP, x + way * STEP - STEP))
            expected = -1 - 0.95 + 0.95**2 * ends.mean()
            found = agent.q(seen(x), torch.tensor([[0.2 * way]]))
            assert float(found) == pytest.approx(float(expected), abs=0.25)
        assert float(agent.q(seen(x), torch.tensor([[0.2]]))) > float(agent.q(seen(x), torch.tensor([[-0.2]]))) + 0.3


def test_the_policy_goes_where_values_rise(agent):
    with torch.no_grad():
        actions = agent.policy(seen(0.5, 1.5, 2.5, 3.5))
    assert (actions > 0.03).all()  # the behaviour's mean is 0


def test_the_policy_imitates_with_the_weights_of_what_stretches_gained(data):
    agent, _ = maze_iql.train(data, settings(updates=20))
    views, actions, gained = torch.randn(6, agent.view.width), torch.randn(6, 1), torch.tensor([0.0, 1, 2, -1, 50, 3])
    weights = torch.tensor([1.0, np.e, np.e**2, 1 / np.e, 10.0, 10.0])  # the largest is 10
    found = agent.losses(views, actions, gained, settings(largest_weight=10.0))
    expected = -(weights * agent.chooser.log_likelihood(views, actions)).mean()
    torch.testing.assert_close(found["policy"], expected)
    found["critic"].backward()
    assert all(parameter.grad is None for parameter in agent.chooser.parameters())


def test_critics_see_how_v_lies_around_and_not_where_they_are(agent):
    """Two bodies at places with the same surroundings look alike; near where nobody was they do not."""
    places = agent.places
    places = type(places)((1, 20), places.side, places.least)
    places.values.copy_(-torch.arange(20.0).flip(0)[None])
    places.visited.fill_(1.0)
    view = maze_iql.View(places, 3)
    here, further, edge = view(torch.tensor([[3.0, 0.2, 1.0], [5.0, 0.2, 1.0], [9.6, 0.2, 1.0]]))
    torch.testing.assert_close(here, further)
    assert here.shape == (view.width,) == (1 + 16,)
    east, west = here[1], here[1 + 4]
    torch.testing.assert_close(east, torch.tensor(2 / maze_iql.STEEP))  # a metre is two cells
    torch.testing.assert_close(west, torch.tensor(-2 / maze_iql.STEEP))
    assert not torch.allclose(here, edge)


def test_an_agent_is_read_back_and_answers_in_batches(tmp_path, agent):
    common.save_model(tmp_path / "agent.safetensors", agent, {"dataset": "x"})
    again, about = common.load_model(tmp_path / "agent.safetensors", MazeIQL)
    observations, actions = torch.rand(2, 5, 3) * 4, torch.rand(2, 5, 1)
    assert about == {"dataset": "x"} and agent.q(observations, actions).shape == (2, 5)
    assert torch.equal(again.q(observations, actions), agent.q(observations, actions))
    assert torch.equal(again.value(observations), agent.value(observations))
    assert torch.equal(again.policy(observations), agent.policy(observations))
    assert (again.scale, again.shift, again.policy.observation) == (1.0, -1.0, 3)


def test_a_killed_run_ends_with_the_same_weights(tmp_path, data):
    quick = settings(updates=30, log_every=5, save_every=10, dropout=0.3)
    whole, _ = maze_iql.train(data, quick)

    def stop(row):
        if row["step"] == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maze_iql.train(data, quick, tmp_path, stop)
    resumed, curve = maze_iql.train(data, quick, tmp_path)
    assert [row["step"] for row in curve] == [5, 10, 15, 20, 25, 30]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_command_ships_an_agent(tmp_path, data, monkeypatch):
    monkeypatch.setattr(common, "load", lambda name: data)
    out = tmp_path / "antmaze-umaze-iql.safetensors"
    arguments = ["--dataset", "local:antmaze-umaze", "--out", str(out), "--folder", str(tmp_path), "--device", "cpu"]
    arguments += ["--updates", "20", "--batch", "16", "--expectile", "0.8", "--caution", "0.5", "--n-step", "3"]
    monkeypatch.setattr("sys.argv", ["maze_iql", *arguments])
    maze_iql.main()
    agent, about = common.load_model(out, MazeIQL)
    assert (about["dataset"], about["fingerprint"]) == ("local:antmaze-umaze", data.fingerprint())
    given = {"updates": 20, "batch": 16, "expectile": 0.8, "caution": 0.5, "n_step": 3}
    assert {key: about["settings"][key] for key in given} == given
    assert "ttlib.baselines.maze_iql" in about["command"] and agent.places.side == 0.5
