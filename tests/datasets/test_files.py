import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from ttlib.datasets import load


def arrays(steps=12):
    rng = np.random.default_rng(0)
    terminals, timeouts = np.zeros(steps, dtype=bool), np.zeros(steps, dtype=bool)
    terminals[4] = timeouts[-1] = True
    floats = {"observations": (steps, 3), "actions": (steps, 2), "rewards": (steps,)}
    values = {key: rng.normal(size=shape).astype(np.float32) for key, shape in floats.items()}
    return values | {"terminals": terminals, "timeouts": timeouts}


def write(path, values):
    if path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".safetensors":
        save_file(values, path)
    else:
        with h5py.File(path, "w") as file:
            for key, value in values.items():
                file[key] = value


@pytest.fixture(params=[".hdf5", ".npz", ".safetensors"])
def path(request, tmp_path):
    return tmp_path / f"mine{request.param}"


def test_all_kinds_of_file_give_the_same_trajectories(path):
    values = arrays()
    write(path, values)
    loaded = load(f"file:{path}")
    assert loaded.bounds.tolist() == [[0, 5], [5, 12]]
    for key, value in values.items():
        np.testing.assert_array_equal(getattr(loaded, key), value)


def test_episodes_of_one_step_are_left_out(path):
    values = arrays()
    values["terminals"][5] = True
    write(path, values)
    assert load(f"file:{path}").lengths.tolist() == [5, 6]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(path, share):
    write(path, arrays(2000))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="not a whole"):
        load(f"file:{path}")


def test_a_foreign_file_is_refused(path):
    path.write_bytes(b"something else entirely" * 50)
    with pytest.raises(ValueError, match="not a whole"):
        load(f"file:{path}")


def test_missing_keys_and_bad_values_are_named(path):
    values = arrays()
    values["rewards"][3] = np.nan
    write(path, values)
    with pytest.raises(ValueError, match=r"rewards holds 1 values that are not finite, the first at \(3,\)"):
        load(f"file:{path}")
    path.unlink()
    del values["actions"]
    write(path, values)
    with pytest.raises(ValueError, match="no actions"):
        load(f"file:{path}")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "evil.npz", **(arrays() | {"rewards": np.array([{}] * 12, dtype=object)}))
    with pytest.raises(ValueError, match="plain arrays"):
        load(f"file:{tmp_path / 'evil.npz'}")


def test_other_kinds_of_file_are_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("1,2")
    with pytest.raises(ValueError, match="no data file"):
        load(f"file:{tmp_path / 'mine.csv'}")
    with pytest.raises(FileNotFoundError, match="no data file"):
        load(f"file:{tmp_path / 'absent.npz'}")
