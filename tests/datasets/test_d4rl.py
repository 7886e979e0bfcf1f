"""D4RL: its table, and files in its schema, whole and damaged."""

import subprocess
import sys
import tracemalloc

import gymnasium
import h5py
import numpy as np
import pytest

from tests.datasets.server import serving
from ttlib.datasets import d4rl, load
from ttlib.datasets.scores import REFERENCES


def write(path, steps=40, ends=(9, 19, 31), falls=(19,), observation=11, action=3, **change):
    """A file in the schema of D4RL's -v2 locomotion sets: float32 arrays, flags, and what we do not read."""
    rng = np.random.default_rng(0)
    timeouts = np.isin(np.arange(steps), ends) & ~np.isin(np.arange(steps), falls)
    arrays = {
        "observations": rng.normal(size=(steps, observation)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(steps, action)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminals": np.isin(np.arange(steps), falls),
        "timeouts": timeouts,
        "next_observations": rng.normal(size=(steps, observation)).astype(np.float32),
        "infos/qpos": rng.normal(size=(steps, 6)),
        "metadata/algorithm": np.bytes_("SAC"),
    } | change
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                file[key] = value
    return arrays


def test_the_table_is_read_without_importing_d4rl():
    if not d4rl.importlib.util.find_spec("d4rl"):
        pytest.skip("d4rl is not installed")
    script = "import sys; from ttlib.datasets import d4rl; d4rl.table(); assert 'd4rl' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    rows = d4rl.table()
    bodies, kinds = ("hopper", "walker2d", "halfcheetah"), ("medium", "medium-replay", "medium-expert")
    assert {f"{body}-{kind}-v2" for body in bodies for kind in kinds} <= set(rows)
    mazes = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
    assert {f"antmaze-{maze}-v{version}" for maze in mazes for version in (0, 2)} <= set(rows)
    for name, (url, low, high) in rows.items():
        assert url.startswith("http") and url.endswith(".hdf5")
        assert d4rl.environment(name).endswith("-D4RL-v0" if name.startswith("antmaze") else "-v4")
        if not name.startswith("antmaze"):
            assert (low, high) == REFERENCES[name.split("-")[0]]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(d4rl.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install d4rl"):
        load("d4rl:hopper-medium-v2")


def test_terminals_and_timeouts_apart(tmp_path):
    written = write(tmp_path / "a.hdf5")
    trajectories = d4rl.read(tmp_path / "a.hdf5", "x", "Hopper-v4")
    assert trajectories.bounds.tolist() == [[0, 10], [10, 20], [20, 32], [32, 40]]
    assert np.flatnonzero(trajectories.terminals).tolist() == [19]
    assert np.flatnonzero(trajectories.timeouts).tolist() == [9, 31, 39]
    for key in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(trajectories, key), written[key])


def test_other_types_and_columns_are_read(tmp_path):
    written = write(
        tmp_path / "a.hdf5",
        observations=np.arange(80.0).reshape(40, 2),
        rewards=np.arange(40.0)[:, None],
        terminals=(np.arange(40) == 19).astype(np.float32)[:, None],
        timeouts=(np.arange(40) == 9).astype(np.uint8),
    )
    trajectories = d4rl.read(tmp_path / "a.hdf5")
    assert np.array_equal(trajectories.observations, written["observations"])
    assert trajectories.rewards.tolist() == list(range(40))
    assert trajectories.bounds.tolist() == [[0, 10], [10, 20], [20, 40]]


def test_fragments_of_one_step_are_left_out(tmp_path):
    written = write(tmp_path / "a.hdf5", ends=(0, 9, 10, 38), falls=(10,))
    trajectories = d4rl.read(tmp_path / "a.hdf5")
    assert trajectories.lengths.tolist() == [9, 28]
    keep = np.r_[1:10, 11:39]
    assert np.array_equal(trajectories.rewards, written["rewards"][keep])
    assert trajectories.timeouts[[8, 36]].all() and not trajectories.terminals.any()


def test_antmaze_episodes_end_where_the_ant_jumps(tmp_path):
    """Jumps after steps 11 and 25; recorded timeouts at 9 (two steps early), 30 (no jump), none near 25."""
    position = np.zeros((40, 11), np.float32)
    position[:, 0] = np.arange(40) * 0.1
    position[12:26, 0] += 20
    write(tmp_path / "a.hdf5", ends=(9, 30), falls=(), observations=position, rewards=np.zeros(40, np.float32))
    trajectories = d4rl.read(tmp_path / "a.hdf5", jumps=True)
    assert trajectories.bounds.tolist() == [[0, 12], [12, 26], [26, 31], [31, 40]]
    for start, stop in trajectories.bounds:
        assert (np.abs(np.diff(trajectories.observations[start:stop, 0])) < 1).all()
    assert d4rl.read(tmp_path / "a.hdf5").bounds.tolist() == [[0, 10], [10, 31], [31, 40]]


def test_an_antmaze_episode_ends_at_its_first_reward(tmp_path):
    """The ant is at the goal from step 10 to 13, of which the file calls two terminals, and comes back at step 20."""
    rewards = np.isin(np.arange(40), (10, 11, 12, 13, 20)).astype(np.float32)
    position = np.zeros((40, 11), np.float32)
    write(tmp_path / "a.hdf5", ends=(29,), falls=(12, 13), observations=position, rewards=rewards)
    trajectories = d4rl.read(tmp_path / "a.hdf5", jumps=True)
    assert trajectories.lengths.tolist() == [11, 7, 9, 10]  # steps 11 to 13 are episodes of one step
    assert trajectories.returns.tolist() == [1, 1, 0, 0]
    assert trajectories.terminals[trajectories.bounds[:, 1] - 1].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timeouts": None}, "has no timeouts"),
        ({"observations": None, "terminals": None}, "has no observations and no terminals"),
        ({"rewards": np.full(40, np.nan, np.float32)}, "rewards holds 40 values that are not finite"),
        ({"actions": np.full((40, 3), np.inf, np.float32)}, "actions holds 120 values that are not finite"),
        ({"rewards": np.zeros(39, np.float32)}, "different lengths .*rewards 39"),
        ({"observations": np.zeros(40, np.float32)}, "arrays; here they have the shapes"),
        ({"terminals": np.full(40, 3)}, "other than 0 and 1"),
        ({"timeouts": np.full(40, np.nan)}, "other than 0 and 1"),
        ({"actions": np.full(40, b"left")}, "not as an array of numbers"),
        ({"actions": None, "actions/left": np.zeros(40)}, "not as an array of numbers"),
        (
            {key: np.zeros((0, 2), np.float32) for key in d4rl.KEYS[:2]} | dict.fromkeys(d4rl.KEYS[2:], np.zeros(0)),
            "no step",
        ),
    ],
)
def test_unusable_files_are_refused(tmp_path, change, words):
    write(tmp_path / "a.hdf5", **change)
    with pytest.raises(ValueError, match=words) as caught:
        d4rl.read(tmp_path / "a.hdf5")
    assert "a.hdf5" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>no such file</html>", b"PK\x03\x04 an npz", None])
def test_truncated_and_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "a.hdf5"
    write(path, steps=4000)
    path.write_bytes(path.read_bytes()[:50_000] if content is None else content)
    with pytest.raises(ValueError, match="not a whole HDF5 file .*; delete it and run the same command"):
        d4rl.read(path)


def test_an_unknown_name_lists_the_names(tmp_path):
    rows = {"hopper-medium-v2": ("http://127.0.0.1/hopper_medium-v2.hdf5", 0, 1)}
    with pytest.raises(ValueError, match="no D4RL data set 'hopper-large-v2'; there are hopper-medium-v2."):
        d4rl.load("hopper-large-v2", folder=tmp_path, rows=rows)


def test_load_downloads_once_and_then_reads_the_file(tmp_path):
    write(tmp_path / "source.hdf5", steps=2000, ends=(999, 1999))
    content = (tmp_path / "source.hdf5").read_bytes()
    folder = tmp_path / "datasets"
    with serving(content, cut=len(content) // 2 + 1) as (url, asked):
        rows = {"hopper-medium-v2": (url, 0, 1)}
        first = d4rl.load("hopper-medium-v2", folder, rows, progress=False)
        assert d4rl.load("hopper-medium-v2", folder, rows, progress=False).fingerprint() == first.fingerprint()
        assert len(asked) == 2
    assert (first.name, first.env_id) == ("d4rl:hopper-medium-v2", "Hopper-v4")
    assert [path.name for path in folder.iterdir()] == ["file.hdf5"]


def test_a_download_that_is_no_hdf5_is_not_kept(tmp_path):
    with serving(b"<html>moved</html>") as (url, _):
        with pytest.raises(ValueError, match="not a whole HDF5 file .*; it was deleted"):
            d4rl.load("hopper-medium-v2", tmp_path, {"hopper-medium-v2": (url, 0, 1)}, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_large_file_takes_at_most_three_times_its_size_in_memory(tmp_path):
    steps = 200_000
    write(tmp_path / "a.hdf5", steps=steps, ends=range(999, steps, 1000), falls=[*range(4999, steps, 5000), 5000])
    tracemalloc.start()
    try:
        trajectories = d4rl.read(tmp_path / "a.hdf5")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(trajectories) == steps - 1, "a fragment of one step is left out on the way"
    assert peak < 3 * steps * (11 + 3 + 1) * 4


def test_an_ants_contact_forces_are_left_out(tmp_path):
    folder = tmp_path / "d4rl"
    folder.mkdir()
    arrays = write(folder / "ant.hdf5", observation=111, action=8)
    data = d4rl.load("ant-medium-v2", folder, {"ant-medium-v2": ("http://localhost/ant.hdf5", 0.0, 1.0)})
    np.testing.assert_array_equal(data.observations, arrays["observations"][:, :27])
    env = gymnasium.make(data.env_id)
    assert env.observation_space.shape == (data.observation_dim,)
