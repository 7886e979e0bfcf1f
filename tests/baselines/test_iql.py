"""IQL against dynamic programming: values of a small chain whose transitions and behaviour are known."""

import numpy as np
import pytest
import torch

from ttlib.baselines import common, iql
from ttlib.baselines.common import Transitions
from ttlib.baselines.iql import IQL, IQLSettings, expectile_loss, rescaling
from ttlib.trajectories import Trajectories

STATES, DISCOUNT, FORWARD = 4, 0.9, 0.4
# Rewards for staying (action -1) and for going one place on (action +1); the last step on ends the chain with 2.
STAY, ON = np.array([0.05, 0.0, 0.1, 0.0]), np.array([-0.2, -0.2, -0.2, 2.0])


def chain(episodes=600, longest=5, seed=0):
    """Recorded random walks along the chain. Most are cut after five steps, and the next begins somewhere else."""
    rng = np.random.default_rng(seed)
    recorded = []
    for _ in range(episodes):
        state, run = rng.integers(STATES), {"observations": [], "actions": [], "rewards": [], "terminal": False}
        while len(run["rewards"]) < longest and not run["terminal"]:
            on = rng.random() < FORWARD
            run["observations"].append(np.eye(STATES)[state])
            run["actions"].append([1.0 if on else -1.0])
            run["rewards"].append(ON[state] if on else STAY[state])
            run["terminal"] = bool(on and state == STATES - 1)
            state += int(on and state < STATES - 1)
        if len(run["rewards"]) > 1:
            recorded.append(run)
    return Trajectories.from_episodes(recorded)


def frequencies(data):
    """How often each state's recorded action was to go on: the behaviour, as a data set shows it. Steps that
    end by a timeout do not count."""
    kept = ~data.timeouts
    states, on = data.observations.argmax(axis=1)[kept], data.actions[kept, 0] > 0
    return np.array([on[states == state].mean() for state in range(STATES)])


def solve(share_on, expectile):
    """Q (2, STATES) and V (STATES,) by repeated backups, with the tau-expectile of two values in closed form."""
    v = np.zeros(STATES)
    for _ in range(500):
        q = np.stack([STAY + DISCOUNT * v, ON + DISCOUNT * np.append(v[1:], 0.0)])
        weights = np.stack([1 - share_on, share_on]) * np.where(q >= q.max(axis=0), expectile, 1 - expectile)
        v = (weights * q).sum(axis=0) / weights.sum(axis=0)
    return q, v


def stretches(data, n_step):
    """(state, action, discounted rewards, the state after, steps) of every stretch, one step at a time; the state
    after a terminal is None."""
    found, length = [], len(data)
    states = data.observations.argmax(axis=1)
    for first in range(length):
        earned, at, steps, after = 0.0, first, 0, None
        while steps < n_step and not data.timeouts[at]:
            earned, steps = earned + DISCOUNT**steps * data.rewards[at], steps + 1
            after = None if data.terminals[at] else int(states[at + 1])
            if after is None:
                break
            at += 1
        if steps:
            found.append((int(states[first]), float(data.actions[first, 0]), earned, after, steps))
    return found


def settings(expectile, **changes):
    defaults = {"updates": 800, "learning_rate": 1e-2, "hidden": (32,), "target_rate": 0.1, "temperature": 2.0}
    defaults |= {"discount": DISCOUNT, "rewards": "none", "log_every": 500, "save_every": 500}
    return IQLSettings(expectile=expectile, **(defaults | changes))


@pytest.fixture(scope="module")
def data():
    return chain()


@pytest.mark.parametrize("expectile", [0.5, 0.95])
def test_values_are_those_of_dynamic_programming(data, expectile):
    agent, _ = iql.train(data, settings(expectile))
    q, v = solve(frequencies(data), expectile)
    states = torch.eye(STATES)
    np.testing.assert_allclose(agent.value(states), v, atol=0.06)
    for action, expected in zip((-1.0, 1.0), q, strict=True):
        np.testing.assert_allclose(agent.q(states, torch.full((STATES, 1), action)), expected, atol=0.04)

    weights = np.exp(2.0 * (q - v)) * np.stack([1 - frequencies(data), frequencies(data)])
    with torch.no_grad():
        imitated = agent.policy(states)[:, 0].numpy()
    np.testing.assert_allclose(imitated, (weights[1] - weights[0]) / weights.sum(axis=0), atol=0.04)


def test_the_two_ends_of_the_expectile_are_known_values(data):
    """What `solve` gives at 0.5 is the value of the behaviour, by a linear system; towards 1, of the best action."""
    share = frequencies(data)
    step = DISCOUNT * (np.diag(1 - share) + np.diag(share[:-1], 1))
    behaviour = np.linalg.solve(np.eye(STATES) - step, share * ON + (1 - share) * STAY)
    np.testing.assert_allclose(solve(share, 0.5)[1], behaviour, atol=1e-6)
    best = np.array([-0.2 + 0.9 * (-0.2 + 0.9 * (-0.2 + 0.9 * 2)), -0.2 + 0.9 * (-0.2 + 0.9 * 2), -0.2 + 0.9 * 2, 2.0])
    np.testing.assert_allclose(solve(share, 0.9999)[1], best, atol=0.01)
    assert np.abs(behaviour - best).min() > 0.2  # so that the test above tells them apart
    assert np.abs(solve(share, 0.95)[1] - behaviour).min() > 0.15


def test_stretches_end_where_their_episode_does(data):
    transitions = Transitions(data, n_step=3, discount=DISCOUNT)
    _, actions, rewards, following, terminals, passed = transitions.batch(torch.arange(len(transitions)))
    found = stretches(data, 3)
    assert len(transitions) == len(found) and {1, 2, 3} == {int(k) for k in passed}
    np.testing.assert_allclose(rewards, [row[2] for row in found], rtol=1e-5)
    assert terminals.bool().tolist() == [row[3] is None for row in found]
    goes_on = ~terminals.bool()
    assert following.argmax(dim=1)[goes_on].tolist() == [row[3] for row in found if row[3] is not None]
    assert passed.tolist() == [row[4] for row in found]
    np.testing.assert_array_equal(actions[:, 0], [row[1] for row in found])


def test_no_transition_crosses_an_episodes_end(data):
    transitions = Transitions(data)
    observations, actions, rewards, following, terminals, _ = transitions.batch(torch.arange(len(transitions)))
    assert len(transitions) == len(data) - data.timeouts.sum() and terminals.sum() == data.terminals.sum()
    now, then, on = observations.argmax(dim=1), following.argmax(dim=1), actions[:, 0] > 0
    assert torch.equal(then, (now + on.long()).clamp(max=STATES - 1))
    assert torch.equal(terminals.bool(), on & (now == STATES - 1))


def test_rewards_are_rescaled_as_asked(data):
    scale, shift = rescaling(data, "range")
    np.testing.assert_allclose(np.ptp(scale * data.returns), 1000)
    assert shift == 0 and rescaling(data, "minus one") == (1, -1) and rescaling(data, "none") == (1, 0)
    assert Transitions(data, 2.0, -1.0).rewards[0] == 2 * data.rewards[~data.timeouts][0] - 1
    with pytest.raises(ValueError, match="not 'halved'"):
        rescaling(data, "halved")
    same = Trajectories(data.observations, data.actions, 0 * data.rewards, data.terminals, data.timeouts)
    with pytest.raises(ValueError, match="all returns are equal"):
        rescaling(same, "range")


def test_the_expectile_loss_is_least_at_the_expectile():
    x = torch.tensor([0.0, 0.0, 0.0, 1.0])
    for tau in (0.5, 0.8):
        m = torch.linspace(0, 1, 1001)
        best = m[expectile_loss(x - m[:, None], tau).mean(dim=1).argmin()]
        assert best == pytest.approx(tau / (tau + 3 * (1 - tau)), abs=1e-3)


def test_each_loss_trains_its_own_networks_only(data):
    torch.manual_seed(0)
    agent, transitions = IQL(STATES, 1, (8,)), Transitions(data)
    owners = {"value": agent.v, "critic": agent.critics, "policy": agent.policy}
    for name, owner in owners.items():
        agent.zero_grad(set_to_none=True)
        agent.losses(transitions.batch(torch.arange(64)), settings(0.7))[name].backward()
        touched = {id(p) for p in agent.parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert touched and touched <= {id(p) for p in owner.parameters()}


def test_the_weights_of_the_policy_are_clipped(data):
    torch.manual_seed(0)
    agent, transitions = IQL(STATES, 1, (8,)), Transitions(data)
    with torch.no_grad():
        agent.v[-1].bias.fill_(-1000.0)  # every action seems far better than V
    batch = transitions.batch(torch.arange(64))
    loss = agent.losses(batch, settings(0.7, temperature=10.0))["policy"]
    torch.testing.assert_close(loss, -100 * agent.policy.log_likelihood(*batch[:2]).mean())


def test_an_agent_is_read_back_and_answers_in_batches(tmp_path, data):
    agent, _ = iql.train(data, settings(0.7, updates=20, rewards="range"))
    common.save_model(tmp_path / "iql.safetensors", agent, {})
    read, _ = common.load_model(tmp_path / "iql.safetensors", IQL)
    observations, actions = torch.randn(3, 5, STATES), torch.rand(3, 5, 1)
    q = read.q(observations, actions)
    assert q.shape == read.value(observations).shape == (3, 5) and not q.requires_grad
    assert torch.equal(q, agent.q(observations, actions)) and read.scale == rescaling(data, "range")[0]
    torch.testing.assert_close(q[1, 2], read.q(observations[1, 2], actions[1, 2]))
    pair = torch.cat([read.standardize(observations), actions], dim=-1)
    each = torch.stack([critic(pair)[..., 0] for critic in read.slow_critics])
    assert torch.equal(q, each.min(dim=0).values) and not torch.allclose(each[0], each[1])


def test_a_killed_run_ends_with_the_same_weights(tmp_path, data):
    quick = settings(0.7, updates=30, log_every=5, save_every=10)
    whole, _ = iql.train(data, quick)

    def stop(row):
        if row["step"] == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        iql.train(data, quick, tmp_path, stop)
    resumed, curve = iql.train(data, quick, tmp_path)
    assert [row["step"] for row in curve] == [5, 10, 15, 20, 25, 30]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_command_trains_by_the_settings_of_the_data_and_ships_an_agent(tmp_path, data, monkeypatch):
    monkeypatch.setattr(common, "load", lambda name: data)
    out = tmp_path / "pointmaze-umaze-iql.safetensors"
    arguments = ["--dataset", "local:pointmaze-umaze", "--out", str(out), "--folder", str(tmp_path), "--device", "cpu"]
    arguments += ["--updates", "20", "--batch", "16", "--expectile", "0.8", "--discount", "0.9", "--target-rate", "0.1"]
    monkeypatch.setattr("sys.argv", ["iql", *arguments])
    iql.main()
    agent, about = common.load_model(out, IQL)
    assert (about["dataset"], about["fingerprint"]) == ("local:pointmaze-umaze", data.fingerprint())
    given = {"updates": 20, "batch": 16, "expectile": 0.8, "discount": 0.9, "target_rate": 0.1}
    authors = {"temperature": 10.0, "rewards": "minus one"}
    assert {key: about["settings"][key] for key in (*given, *authors)} == given | authors
    assert agent.shift == -1.0 and agent.scale == 1.0 and "ttlib.baselines.iql" in about["command"]
    assert iql.settings_for("d4rl:antmaze-umaze-v2") == iql.ANTMAZE
    assert iql.settings_for("local:pointmaze-umaze") == iql.ANTMAZE
    assert iql.settings_for("local:hopper-medium") == iql.IQLSettings()


def test_targets_keep_within_what_the_rewards_allow(data):
    """Rewards of -1 and 0, discounted by 0.9, sum up to something in [-10, 0], whatever a network says."""
    assert iql.limits_of(torch.tensor([-1.0, 0.0, -1.0]), 0.9) == pytest.approx((-10.0, 0.0))
    assert iql.limits_of(torch.tensor([1.0, 3.0]), 0.5) == pytest.approx((0.0, 6.0))
    for discount in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            iql.limits_of(torch.tensor([1.0]), discount)
    agent, transitions = IQL(STATES, 1, (8,)), Transitions(data)
    batch = transitions.batch(torch.arange(8))
    with torch.no_grad():
        agent.v[-1].bias.fill_(1000.0)
    bounded = agent.losses(batch, IQLSettings(), (-10.0, 0.0))["critic"]
    assert bounded < 1000 < agent.losses(batch, IQLSettings())["critic"]
