"""D4RL's data sets: addresses and reference scores from the d4rl package's own table, files read as they are.

`import d4rl` needs MuJoCo 2.1 and more; only its file `infos.py` is wanted, which
imports nothing. So it is found without importing the package and run by its path.

What is done to the data: terminals and timeouts are kept apart; fragments of one
step are left out; in AntMaze, whose recorded timeouts are some steps away from the
jump to the next start in the v0 files, the episode ends at the jump. An ant may stay
near the goal or come back to it; every step with a reward there ends an episode, as it
does in the environment, whether the file calls it a terminal or not.
"""

import importlib.util
import re
from pathlib import Path

import h5py
import numpy as np

from ttlib.datasets.download import download
from ttlib.trajectories import Trajectories, drop_short_episodes

FOLDER = Path.home() / ".d4rl" / "datasets"
SUPPORTED = re.compile(r"(hopper|walker2d|halfcheetah|ant)-.+-v2|antmaze-.+-v[02]")
# Models of D4RL data are evaluated in -v4: -v5 changed a friction and the healthy reward. For AntMaze D4RL has an
# ant, coordinates and goals of its own (`ttlib.envs.ant_maze`).
ENVIRONMENTS = {
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "halfcheetah": "HalfCheetah-v4",
    "ant": "Ant-v4",
    "antmaze-umaze": "AntMazeUMaze-D4RL-v0",
    "antmaze-medium": "AntMazeMedium-D4RL-v0",
    "antmaze-large": "AntMazeLarge-D4RL-v0",
}
# D4RL's ant has 84 contact forces more than its environment here; they are all 0.
OBSERVED = {"ant": 27}
KEYS = ("observations", "actions", "rewards", "terminals", "timeouts")
# Metres between two steps of an ant that no ant can run.
JUMP = 2.0


def table():
    """D4RL's table: dict from data set name to (address, least, greatest reference return).

    Raises:
        ValueError: the d4rl package is not installed.
    """
    spec = importlib.util.find_spec("d4rl")
    path = Path(spec.origin).with_name("infos.py") if spec and spec.origin else None
    if path is None or not path.exists():
        raise ValueError(
            "the table of D4RL's addresses comes from the package d4rl, which is not installed; "
            "install it with `pip install d4rl` (it is only read, never imported)."
        )
    spec = importlib.util.spec_from_file_location("_d4rl_infos", path)
    infos = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(infos)
    return {
        name: (url, infos.REF_MIN_SCORE.get(name), infos.REF_MAX_SCORE.get(name))
        for name, url in infos.DATASET_URLS.items()
        if SUPPORTED.fullmatch(name)
    }


def load(name, folder=FOLDER, rows=None, progress=True):
    """`Trajectories` of D4RL's `name`, such as "hopper-medium-v2", downloaded on first use.

    Args:
        name: a name of `table()`.
        folder: where D4RL keeps its files.
        rows: used in place of `table()`.
        progress: whether a download shows a bar.

    Raises:
        ValueError: no such data set, no table, or the file is damaged or not D4RL's.
        OSError: it cannot be downloaded; what came is kept.
    """
    rows = table() if rows is None else rows
    if name not in rows:
        raise ValueError(f"there is no D4RL data set {name!r}; there are {', '.join(sorted(rows))}.")
    url = rows[name][0]
    path = Path(folder) / url.rsplit("/", 1)[1]
    download(url, path, check=_is_hdf5, progress=progress)
    observed = OBSERVED.get(name.split("-")[0])
    return read(path, f"d4rl:{name}", environment(name), jumps=name.startswith("antmaze"), observed=observed)


def environment(name):
    """The environment in which models of D4RL's `name` are evaluated."""
    body, kind = name.split("-")[:2]
    return ENVIRONMENTS[f"{body}-{kind}" if body == "antmaze" else body]


def read(path, name="", env_id="", jumps=False, observed=None):
    """`Trajectories` in a D4RL HDF5 file.

    Args:
        path: HDF5 file with `observations` (T, N), `actions` (T, M), `rewards`,
            `terminals` and `timeouts` (T,) or (T, 1); whatever else is in it is not read.
        name, env_id: passed on.
        jumps: whether the first two observation dimensions are a position in metres
            whose jumps tell where episodes end, and rewards above 0 are terminals (AntMaze).
        observed: how many of an observation's dimensions are kept; all, if left out.

    Raises:
        ValueError: not a whole HDF5 file, keys are missing, or the values are no trajectories.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise ValueError(
                    f"{path} has no {' and no '.join(missing)}, so it is no D4RL data set that can be read; "
                    "use a -v2 set (the -v0 files of the locomotion tasks have no timeouts)."
                )
            arrays = {key: _read(file[key], path) for key in KEYS}
    except (OSError, RuntimeError, KeyError) as error:  # what h5py raises depends on where the damage lies
        raise ValueError(
            f"{path} is not a whole HDF5 file ({error}); delete it and run the same command to download it again."
        ) from error
    try:
        _check_lengths(arrays)
        arrays["observations"] = arrays["observations"][..., :observed]
        if jumps:
            arrays["terminals"] = arrays["terminals"] | (arrays["rewards"] > 0)
            arrays["timeouts"] = end_at_jumps(arrays["observations"], arrays["terminals"], arrays["timeouts"])
        ends = arrays["terminals"] | arrays["timeouts"]
        if np.any(ends[1:] & ends[:-1]) or ends[0] or (len(ends) > 1 and ends[-2]):
            arrays = drop_short_episodes(arrays)
        return Trajectories(**arrays, name=name, env_id=env_id)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def end_at_jumps(observations, terminals, timeouts, slack=2):
    """Timeouts at the steps before a position jumps.

    A recorded timeout with a jump at most `slack` steps away moves to it; a jump
    without one becomes a timeout; other timeouts stay.

    Args:
        observations: (T, N), the first two columns x and y in metres.
        terminals, timeouts: (T,) bool.

    Returns:
        (T,) bool timeouts.
    """
    distance = np.linalg.norm(np.diff(observations[:, :2], axis=0), axis=1)
    jump = np.append(distance > JUMP, False)
    near = np.zeros(len(jump) + 2 * slack, dtype=bool)
    for shift in range(2 * slack + 1):
        near[shift : shift + len(jump)] |= jump
    return ((timeouts & ~near[slack : slack + len(jump)]) | jump) & ~terminals


def _read(node, path):
    """One array, converted while it is read so that no second copy of it is held."""
    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {node.name!r}, but not as an array of numbers.")
    values = np.empty(node.shape, dtype=np.float32 if node.name[1:] in KEYS[:3] else np.bool_)
    if values.dtype == np.bool_ and node.dtype.kind != "b":
        values = node[()]
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{path} holds values other than 0 and 1 in {node.name[1:]}.")
        values = values.astype(bool)
    elif values.size:
        node.read_direct(values)
    if node.name[1:] not in KEYS[:2] and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return values


def _check_lengths(arrays):
    steps = {key: array.shape[0] if array.ndim else 0 for key, array in arrays.items()}
    if len(set(steps.values())) != 1:
        raise ValueError(f"its arrays have different lengths ({', '.join(f'{k} {n}' for k, n in steps.items())}).")
    if not steps["rewards"]:
        raise ValueError("there is no step in it.")


def _is_hdf5(path):
    try:
        with h5py.File(path, "r"):
            pass
    except OSError as error:
        raise ValueError(
            f"what was downloaded as {path.stem} is not a whole HDF5 file ({error}); it was deleted: run the same "
            "command again, or put the right file in its place."
        ) from error
