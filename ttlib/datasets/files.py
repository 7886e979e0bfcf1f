"""A file of one's own: HDF5 in D4RL's schema, npz or safetensors with the same names."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ttlib.datasets import d4rl
from ttlib.trajectories import Trajectories, drop_short_episodes


def load(path, env_id=""):
    """`Trajectories` in the file `path`.

    Args:
        path: `*.hdf5`, `*.npz` or `*.safetensors` with `observations` (T, N), `actions` (T, M),
            `rewards`, `terminals` and `timeouts` (T,). Episodes of one step are left out.
        env_id: the environment in which models of this data are evaluated.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, a damaged one, keys are missing, or the values are no trajectories.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no data file {path}.")
    if path.suffix in (".hdf5", ".h5"):
        return d4rl.read(path, f"file:{path.name}", env_id)
    readers = {".npz": _read_npz, ".safetensors": load_file}
    if path.suffix not in readers:
        raise ValueError(f"{path} is no data file that can be read; give .hdf5, .npz or .safetensors.")
    try:
        arrays = readers[path.suffix](path)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        SafetensorError,
    ) as error:
        raise ValueError(
            f"{path} is not a whole {path.suffix} file of plain arrays ({error}); write it again."
        ) from error
    missing = [key for key in d4rl.KEYS if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}; it needs {', '.join(d4rl.KEYS)}.")
    try:
        arrays = drop_short_episodes({key: arrays[key] for key in d4rl.KEYS})
        return Trajectories(**arrays, name=f"file:{path.name}", env_id=env_id)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
