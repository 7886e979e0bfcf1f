"""Minari: small data sets written by minari itself."""

import sys
import warnings

import gymnasium
import numpy as np
import pytest

from ttlib.datasets import load

minari = pytest.importorskip("minari")
pytest.importorskip("minari.data_collector")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A function that writes a data set of the given episodes to a folder of its own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    from minari.data_collector import EpisodeBuffer

    def write(name, episodes, observation_space, env=None):
        buffers = [EpisodeBuffer(id=number, **episode) for number, episode in enumerate(episodes)]
        action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # minari misses an author and a description
            minari.create_dataset_from_buffers(
                name, buffers, env=env, observation_space=observation_space, action_space=action_space
            )

    return write


def box(size):
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)


def episode(steps, terminal, observations):
    rng = np.random.default_rng(steps)
    last = np.arange(steps) == steps - 1
    return {
        "observations": observations,
        "actions": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        "rewards": rng.normal(size=steps),
        "terminations": last & terminal,
        "truncations": last & (not terminal),
    }


def test_episodes_become_trajectories(store):
    seen = [np.random.default_rng(0).normal(size=(steps + 1, 11)) for steps in (5, 1, 7)]
    episodes = [episode(5, True, seen[0]), episode(1, True, seen[1]), episode(7, False, seen[2])]
    store("tests/hopper/medium-v0", episodes, box(11), gymnasium.make("Hopper-v5"))
    trajectories = load("minari:tests/hopper/medium-v0")
    assert trajectories.lengths.tolist() == [5, 7], "the episode of a single step is left out"
    assert np.flatnonzero(trajectories.terminals).tolist() == [4]
    assert np.flatnonzero(trajectories.timeouts).tolist() == [11]
    expected = np.concatenate([seen[0][:-1], seen[2][:-1]]).astype(np.float32)
    assert np.array_equal(trajectories.observations, expected)
    assert (trajectories.name, trajectories.env_id) == ("minari:tests/hopper/medium-v0", "Hopper-v5")


def test_a_maze_puts_the_position_first(store):
    space = gymnasium.spaces.Dict({"observation": box(4), "achieved_goal": box(2), "desired_goal": box(2)})
    rng = np.random.default_rng(0)
    seen = {key: rng.normal(size=(7, size)) for key, size in (("observation", 4), ("achieved_goal", 2))}
    store("tests/maze-v0", [episode(6, False, seen | {"desired_goal": rng.normal(size=(7, 2))})], space)
    trajectories = load("minari:tests/maze-v0")
    expected = np.concatenate([seen["achieved_goal"], seen["observation"]], axis=1)[:-1].astype(np.float32)
    assert np.array_equal(trajectories.observations, expected)
    assert trajectories.env_id == ""


def test_values_that_are_not_finite_are_refused(store):
    seen = np.zeros((6, 11))
    seen[2, 3] = np.nan
    store("tests/broken-v0", [episode(5, True, seen)], box(11))
    with pytest.raises(ValueError, match="'tests/broken-v0' cannot be used: observations holds 1 values"):
        load("minari:tests/broken-v0")


def test_an_unknown_name_is_one_sentence(store, monkeypatch):
    def no_network(*args, **kwargs):
        raise ValueError("Couldn't find any version for dataset tests/none in the remote Farama server.")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", no_network)
    with pytest.raises(ValueError, match="there is no Minari data set 'tests/none-v0' .*minari list remote"):
        load("minari:tests/none-v0")


def test_no_network_is_one_sentence(store, monkeypatch):
    def no_network(*args, **kwargs):
        raise ConnectionError("Name or service not known\nand a long story")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", no_network)
    with pytest.raises(OSError, match="cannot be downloaded or opened") as caught:
        load("minari:tests/none-v0")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ValueError, match="pip install"):
        load("minari:mujoco/hopper/medium-v0")
